"""The wire contract as JSON Schema (2020-12), for producers and readers in other languages.

Generated from the types in `contract.py`; what these leave to `check_request` (lengths, characters) is added here. The
text is kept in `producer/contract.schema.json`, and a test says when it is no longer this.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from imagequeue import contract
from imagequeue.contract import Request, Result

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"


class JobKeywords(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The keyword arguments of the one function that a job may name."""

    request: Request


def contract_schema() -> dict[str, Any]:
    """`$defs` has Request, JobData, Result and what they are made of; the schema itself accepts any of the three."""
    _, components = msgspec.json.schema_components((Request, JobKeywords, Result), ref_template="#/$defs/{name}")
    definitions = dict(components)
    _add_limits(definitions)
    definitions["JobData"] = _job_data()
    return {
        "$schema": DIALECT,
        "title": f"imagequeue: the wire contract, version {contract.VERSION}",
        "description": "Text on Redis is UTF-8 JSON. CONTRACT.md beside this file submits and reads by hand.",
        "anyOf": [{"$ref": f"#/$defs/{name}"} for name in ("Request", "JobData", "Result")],
        "$defs": definitions,
    }


def schema_text() -> str:
    """The schema as it stands in the file."""
    return msgspec.json.format(msgspec.json.encode(contract_schema()), indent=2).decode() + "\n"


def _job_data() -> dict[str, Any]:
    """RQ's `data` of a job: function, instance, positional and keyword arguments."""
    return {
        "title": "JobData",
        "description": "The field `data` of an RQ job (JSON serializer): [function, instance, args, kwargs].",
        "type": "array",
        "prefixItems": [
            {"const": contract.TASK},
            {"type": "null"},
            {"type": "array", "maxItems": 0},
            {"$ref": "#/$defs/JobKeywords"},
        ],
        "items": False,
        "minItems": 4,
    }


def _add_limits(definitions: dict[str, Any]) -> None:
    """What check_request asks beyond the types. Lengths are bytes of UTF-8 there, and characters here: no tighter."""
    image = definitions["Image"]["properties"]
    image["id"] |= {
        "minLength": 1,
        "maxLength": contract.ID_BYTES_MAX,
        "not": {"pattern": contract.ID_FORBIDDEN_PATTERN},
    }
    image["ref"] |= {"minLength": 1, "maxLength": contract.REF_BYTES_MAX}
    request = definitions["Request"]["properties"]
    request["version"] |= {"const": contract.VERSION}
    request["collection"] |= {"pattern": f"^{contract.COLLECTION_PATTERN}$"}
    definitions["Failure"]["properties"]["code"] |= {"examples": list(contract.ErrorCode)}
