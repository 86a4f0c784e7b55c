"""CIFAR-10, ImageNet and smaller images as the published experiments read them, in `tf.data`.

The order and the augmentation of an epoch depend on nothing but the seed and its number, so that a
run that was interrupted goes on as if it were not.
"""

import dataclasses
import typing

import datasets
import numpy as np
import tensorflow as tf

# Mean and standard deviation of each channel, of pixels in [0, 1].
HALF = (0.5, 0.5)
TORCHVISION = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


@dataclasses.dataclass(frozen=True)
class Images:
    """What is trained and tested on.

    Args:
        train: `tf.data.Dataset` of `(image, label)`, in an order that is always the same.
        size: How many those are.
        test: The same to test on.
        augment: Function of an image of `train` and a seed, which returns `(height, width,
            channels)`, normalized.
        prepare: Function of an image of `test`, which returns the same.
        shape: `(height, width, channels)`.
        classes: The number of classes.
        window: How many images are shuffled at once.
    """

    train: tf.data.Dataset
    size: int
    test: tf.data.Dataset
    augment: typing.Callable
    prepare: typing.Callable
    shape: tuple
    classes: int
    window: int


def load(name, data_dir, limit, image_size, seed, from_keras=False):
    """The `Images` of a tfds name, of a folder of idx files, or of the embedded digits.

    Args:
        name: A tfds name, `"digits"`, or `None` with a folder of idx files.
        data_dir: That folder, or where tfds keeps its data.
        limit: Train on so many images only; `None` for all.
        image_size: Height and width of images of `"imagenet2012"`.
        seed: An int; chooses the order of ImageNet's files.
        from_keras: Whether ImageNet is prepared for the weights of `keras.applications`.
    """
    if name == "imagenet2012":
        return imagenet(data_dir, limit, image_size, seed, from_keras)
    streamed = name not in (None, "digits") and data_dir is None
    parts = _from_tfds(name, data_dir) if streamed else datasets.load(name, data_dir)
    return small(*parts, limit)


def _from_tfds(name, data_dir):
    import tensorflow_datasets as tfds

    parts = tfds.load(
        name, split=["train", "test"], data_dir=data_dir, as_supervised=True, batch_size=1024
    )
    return [tuple(np.concatenate(values) for values in zip(*tfds.as_numpy(part))) for part in parts]


def small(train, test, limit=None):
    """`Images` that fit into memory: padded by 4 pixels, cropped, flipped, as CIFAR-10 is."""
    (x, y), shape = train, train[0].shape[1:]
    x, y = x[:limit], y[:limit]

    def prepare(image):
        return normalize(image, *HALF)

    def augment(image, seed):
        image = tf.pad(image, [[4, 4], [4, 4], [0, 0]])
        image = tf.image.stateless_random_crop(image, shape, seed)
        return prepare(tf.image.stateless_random_flip_left_right(image, seed + 1))

    return Images(
        tf.data.Dataset.from_tensor_slices((x, y)),
        len(x),
        tf.data.Dataset.from_tensor_slices(test),
        augment,
        prepare,
        shape,
        int(train[1].max()) + 1,
        window=len(x),
    )


def imagenet(data_dir, limit, image_size, seed, from_keras=False):
    """ImageNet as torchvision reads it: random-resized crops and flips; the centre for tests.

    Files are read in one order and images shuffled in a window of it, as JPEG, which are decoded
    where they are cropped.
    """
    import tensorflow_datasets as tfds

    train, test = tfds.load(
        "imagenet2012",
        split=["train", "validation"],
        data_dir=data_dir,
        as_supervised=True,
        shuffle_files=True,
        read_config=tfds.ReadConfig(shuffle_seed=seed, shuffle_reshuffle_each_iteration=False),
        decoders={"image": tfds.decode.SkipDecoding()},
    )
    train = train if limit is None else train.take(limit)
    scale = _as_for_keras if from_keras else lambda image: normalize(image, *TORCHVISION)

    def prepare(encoded):
        return scale(centre(tf.image.decode_jpeg(encoded, channels=3), image_size))

    def augment(encoded, seed):
        image = random_resized_crop(encoded, image_size, seed)
        return scale(tf.image.stateless_random_flip_left_right(image, seed + 1))

    return Images(
        train,
        int(train.cardinality()),
        test,
        augment,
        prepare,
        (image_size, image_size, 3),
        1000,
        window=16 * 1024,
    )


def normalize(image, mean, deviation):
    """Pixels in [0, 1], or of 8 bits, less their mean, over their standard deviation."""
    return (tf.image.convert_image_dtype(image, tf.float32) - mean) / deviation


def _as_for_keras(image):
    """Pixels in [0, 1] as `keras.applications.resnet.preprocess_input` has them: BGR, centred."""
    image = 255 * tf.image.convert_image_dtype(image, tf.float32)
    return image[..., ::-1] - (103.939, 116.779, 123.68)


def random_resized_crop(encoded, size, seed):
    """A part of 8 to 100 % of a JPEG, its sides as 3:4 to 4:3, at `(size, size)`, in [0, 1]."""
    begin, length, _ = tf.image.stateless_sample_distorted_bounding_box(
        tf.image.extract_jpeg_shape(encoded),
        tf.zeros((1, 0, 4)),
        seed,
        aspect_ratio_range=(3 / 4, 4 / 3),
        area_range=(0.08, 1.0),
        max_attempts=10,
        use_image_if_no_bounding_boxes=True,
    )
    window = tf.concat([begin[:2], length[:2]], axis=0)
    image = tf.image.decode_and_crop_jpeg(encoded, window, channels=3)
    return _resized(image, (size, size))


def centre(image, size):
    """The centre of an image whose shorter side is made 256 / 224 of `size`, in [0, 1]."""
    sides = tf.cast(tf.shape(image)[:2], tf.float32)
    shorter = size * 256 // 224
    sides = tf.cast(tf.round(sides * shorter / tf.reduce_min(sides)), tf.int32)
    image = tf.image.resize_with_crop_or_pad(_resized(image, sides), size, size)
    return tf.ensure_shape(image, (size, size, 3))


def _resized(image, sides):
    image = tf.image.convert_image_dtype(image, tf.float32)
    return tf.clip_by_value(tf.image.resize(image, sides, antialias=True), 0.0, 1.0)


def training_batches(images, batch_size, seed, first_epoch=0, epochs=1):
    """`(dataset, steps)`: whole batches of the epochs from `first_epoch` on, and those of each.

    Raises:
        SystemExit: There are fewer images than one batch takes.
    """
    steps = images.size // batch_size
    if not steps:
        raise SystemExit(
            f"Expected at least one whole batch: {images.size} training images, and --batch_size="
            f"{batch_size}. Raise --limit, or lower --batch_size."
        )

    def epoch_of(epoch):
        tf.random.set_seed(1)  # of this function's graph: none of the program's counts here
        numbered = images.train.shuffle(
            images.window, seed=seed + epoch, reshuffle_each_iteration=False
        ).enumerate()

        def augment(number, example):
            image, label = example
            return images.augment(image, tf.stack([seed + 2 * epoch, 2 * number])), label

        parallel = tf.data.AUTOTUNE
        batches = numbered.map(augment, parallel).batch(batch_size, drop_remainder=True)
        return batches.take(steps)

    dataset = tf.data.Dataset.range(first_epoch, max(epochs, first_epoch)).flat_map(epoch_of)
    return dataset.prefetch(tf.data.AUTOTUNE), steps


def test_batches(images, batch_size):
    dataset = images.test.map(lambda image, label: (images.prepare(image), label), tf.data.AUTOTUNE)
    return dataset.batch(batch_size).prefetch(tf.data.AUTOTUNE)
