"""Tests of imagequeue_worker.caffe2: golden answers first, then properties, then what is refused."""
