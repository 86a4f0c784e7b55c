"""The nano or tiny model of each family of kyolo, and the three nets of mtcnn."""

import kyolo
from mtcnn.network import onet, pnet, rnet

PICTURE = (64, 64, 3)


def _yolo(name):
    return lambda: getattr(kyolo, name)(nc=4, input_shape=PICTURE)


def _built(kind, size):
    def build():
        model = kind()
        model.build((None, size, size, 3))
        return model

    return build


BUILDERS = {
    **{
        name: _yolo(name)
        for name in "yolov5n yolov8n yolov9t yolov10n yolo11n yolo12n yolo26n".split()
    },
    "mtcnn PNet": _built(pnet.PNet, 12),
    "mtcnn RNet": _built(rnet.RNet, 24),
    "mtcnn ONet": _built(onet.ONet, 48),
}
