"""What the longer commands of `imagequeue-worker` do; the short ones stand in cli.py itself.

classify.py       the table of `classify`
info.py           what `info` tells
demo.py           `demo`, which is `make demo`
bench.py          `bench`
evaluate.py       `evaluate`
quantize.py       `quantize`
import_tflite.py  `import-tflite`
default_net.py    `default-net`
rq_tools.py       `rq-info` and `dashboard`
exporter.py       `exporter`
probe.py          `probe`
"""
