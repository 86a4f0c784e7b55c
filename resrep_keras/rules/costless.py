"""What multiplies and sums nothing: layers and operations whose MACs are 0, by name.

Whatever is not on these lists has a rule for what it multiplies, is counted in what its call does,
or is of unknown cost.
"""

from resrep_keras.costs.macs import macs, multiplies_nothing
from resrep_keras.graph.flow import register_all
from resrep_keras.graph.recording import Enter, Leave, Probe
from resrep_keras.keras_adapter import layer_classes, operation_classes

LAYERS = layer_classes(
    *"Activation ReLU LeakyReLU ELU PReLU Softmax".split(),
    *"Add Subtract Average Maximum Minimum Multiply Concatenate".split(),
    *"BatchNormalization LayerNormalization GroupNormalization UnitNormalization".split(),
    *"RMSNormalization Normalization Rescaling ActivityRegularization".split(),
    *"Identity Masking Dropout AlphaDropout GaussianDropout GaussianNoise".split(),
    *(f"SpatialDropout{n}D" for n in (1, 2, 3)),
    *(f"{kind}Pooling{n}D" for kind in ("Max", "Average") for n in (1, 2, 3)),
    *(f"Global{kind}Pooling{n}D" for kind in ("Max", "Average") for n in (1, 2, 3)),
    *(f"Adaptive{kind}Pooling{n}D" for kind in ("Max", "Average") for n in (1, 2, 3)),
    *(f"{kind}{n}D" for kind in ("Cropping", "UpSampling", "ZeroPadding") for n in (1, 2, 3)),
    *"Flatten Reshape Permute RepeatVector InputLayer Embedding".split(),
    # They bring data into a form.
    *"CategoryEncoding CenterCrop Discretization HashedCrossing Hashing IntegerLookup".split(),
    *"Resizing StringLookup TextVectorization MaxNumBoundingBoxes".split(),
    # These hand on their input in inference.
    *"AugMix AutoContrast CutMix MixUp RandAugment Solarization Equalization".split(),
    *"RandomBrightness RandomColorDegeneration RandomColorJitter RandomContrast".split(),
    *"RandomElasticTransform RandomErasing RandomFlip RandomGaussianBlur RandomGrayscale".split(),
    *"RandomCrop RandomHue RandomInvert RandomPerspective RandomPosterization".split(),
    *"RandomRotation RandomSaturation RandomSharpness RandomShear RandomTranslation".split(),
    *"RandomZoom".split(),
)

ENTRY_BY_ENTRY = (
    "abs absolute add angle arccos arccosh arcsin arcsinh arctan arctan2 arctanh bitwise_and "
    "bitwise_invert bitwise_left_shift bitwise_not bitwise_or bitwise_right_shift bitwise_xor cast "
    "cbrt ceil celu clip conj conjugate copy cos cosh deg2rad divide divide_no_nan elu equal erf "
    "erfc erfinv exp exp2 expm1 fabs floor floor_divide fmax fmin fmod gcd gelu glu greater "
    "greater_equal hard_shrink hard_sigmoid hard_silu hard_tanh heaviside hypot i0 imag "
    "isclose isfinite isinf isnan isneginf isposinf isreal lcm ldexp leaky_relu left_shift less "
    "less_equal log log10 log1p log2 log_sigmoid log_softmax logaddexp logaddexp2 logical_and "
    "logical_not logical_or logical_xor maximum minimum mod multiply nan_to_num negative nextafter "
    "not_equal outer kron polar power rad2deg real reciprocal relu relu6 right_shift round rsqrt "
    "saturate_cast select selu sigmoid sign signbit silu sin sinc sinh softmax soft_shrink "
    "softplus softsign sparse_plus sparse_sigmoid sparsemax sqrt square squareplus stop_gradient "
    "subtract tan tanh tanh_shrink threshold true_divide trunc where zeros_like ones_like "
    "full_like empty_like view view_as_complex view_as_real"
)
OVER_AXES = (
    "batch_normalization layer_normalization rms_normalization "
    "adaptive_average_pool adaptive_max_pool all amax amin any argmax argmin argpartition argsort "
    "average average_pool bincount count_nonzero cross cumprod cumsum diff "
    "digitize histogram logsumexp max max_pool mean median min moments "
    "nanargmax nanargmin nancumprod nancumsum nanmax nanmean nanmedian nanmin nanpercentile "
    "nanprod nanquantile nanstd nansum nanvar norm normalize percentile prod ptp quantile "
    "searchsorted segment_max segment_min segment_prod segment_sum sort std sum "
    "top_k trapezoid var binary_crossentropy categorical_crossentropy in_top_k "
    "sparse_categorical_crossentropy"
)
PLACES = (
    "append array_split broadcast_to concatenate depth_to_space diag diagflat diagonal dsplit "
    "dstack expand_dims extract_sequences flip fliplr flipud fold get_item hsplit hstack "
    "isin meshgrid moveaxis multi_hot nonzero one_hot pad ravel rearrange repeat reshape roll "
    "rot90 scatter scatter_update slice slice_update space_to_depth split squeeze stack swapaxes "
    "take take_along_axis tile trace transpose tril triu unfold unique unravel_index unstack "
    "vsplit vstack image.crop_images image.extract_patches image.extract_patches_3d "
    "image.hsv_to_rgb image.pad_images image.resize image.rgb_to_grayscale image.rgb_to_hsv"
)
# Some functions of keras.activations have a class of their own.
ACTIVATIONS = (
    "celu elu exponential gelu glu hard_shrink hard_sigmoid hard_silu hard_tanh leaky_relu "
    "log_sigmoid log_softmax mish relu relu6 selu sigmoid silu soft_shrink softmax softplus "
    "softsign sparse_plus sparse_sigmoid sparsemax squareplus tanh tanh_shrink threshold"
)
OPERATIONS = operation_classes(
    *f"{ENTRY_BY_ENTRY} {OVER_AXES} {PLACES}".split(),
    *(f"activations.{name}" for name in ACTIVATIONS.split()),
)

register_all(macs, *LAYERS, *OPERATIONS, Enter, Leave, Probe)(multiplies_nothing)
