"""What tests of one kind of reference ask: the bytes, or the code of the error, below an image root."""

import pytest

from imagequeue_worker.errors import ImageError
from imagequeue_worker.references import ImageSources, References


def references(root, **options):
    return References(ImageSources(image_roots=(root,), **options))


def code_of(ref, root, **options):
    with pytest.raises(ImageError) as caught:
        references(root, **options).fetch(ref)
    return caught.value.code
