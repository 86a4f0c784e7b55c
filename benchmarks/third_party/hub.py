"""Backbones of KerasHub, each built small from its configuration, without weights to download."""

import keras
import keras_hub

MODELS = keras_hub.models
WORDS = {"vocabulary_size": 50, "num_layers": 2, "hidden_dim": 32, "intermediate_dim": 64}
HEADS = {**WORDS, "num_heads": 4}
GROUPED = {**WORDS, "num_query_heads": 4, "num_key_value_heads": 2}
SHORT = {"max_sequence_length": 32}
PICTURE = (32, 32, 3)


def _of(kind, **settings):
    return lambda: getattr(MODELS, f"{kind}Backbone")(**settings)


def _of_length(length, build):
    """A backbone on sequences of one length: Keras's Fourier transform has to know it."""

    def fixed():
        model = build()
        inputs = {k: keras.Input((length,), dtype=x.dtype) for k, x in model.input.items()}
        return keras.Model(inputs, model(inputs))

    return fixed


def _vit(kind, mlp, **settings):
    shape = {"image_shape": PICTURE, "patch_size": 8, "num_layers": 2, "num_heads": 4}
    return _of(kind, **shape, hidden_dim=32, **{mlp: 64}, **settings)


BUILDERS = {
    "ViT": _vit("ViT", "mlp_dim"),
    "DeiT": _vit("DeiT", "intermediate_dim"),
    "DINOV2": _vit("DINOV2", "intermediate_dim", position_embedding_shape=PICTURE),
    "MiT": _of(
        "MiT",
        layerwise_depths=[1, 1],
        num_layers=2,
        layerwise_num_heads=[1, 2],
        layerwise_sr_ratios=[2, 1],
        max_drop_path_rate=0.1,
        layerwise_patch_sizes=[7, 3],
        layerwise_strides=[4, 2],
        image_shape=PICTURE,
        hidden_dims=[16, 32],
    ),
    "SwinTransformer": _of(
        "SwinTransformer",
        image_shape=PICTURE,
        embed_dim=16,
        depths=[2, 2],
        num_heads=[2, 4],
        window_size=4,
        patch_size=2,
    ),
    "Bert": _of("Bert", **HEADS, **SHORT),
    "DistilBert": _of("DistilBert", **HEADS, **SHORT),
    "Roberta": _of("Roberta", **HEADS, **SHORT),
    "XLMRoberta": _of("XLMRoberta", **HEADS, **SHORT),
    "Albert": _of("Albert", **HEADS, embedding_dim=16, **SHORT),
    "DebertaV3": _of("DebertaV3", **HEADS, bucket_size=8, **SHORT),
    "FNet": _of_length(16, _of("FNet", **WORDS, **SHORT)),
    "RoformerV2": _of("RoformerV2", **HEADS, head_size=8),
    "ESM": _of("ESM", **HEADS),
    "GPT2": _of("GPT2", **HEADS, **SHORT),
    "GPTNeoX": _of("GPTNeoX", **HEADS, **SHORT),
    "OPT": _of("OPT", **HEADS, **SHORT),
    "Bloom": _of("Bloom", **HEADS),
    "Falcon": _of("Falcon", **WORDS, num_attention_heads=4),
    "Llama": _of("Llama", **GROUPED),
    "Llama3": _of("Llama3", **GROUPED),
    "Mistral": _of("Mistral", **GROUPED, sliding_window=8),
    "Phi3": _of("Phi3", **GROUPED),
    "Qwen": _of("Qwen", **GROUPED),
    # Its mask of a sliding window is made by TensorFlow, of a length that has to be known.
    "Qwen3": _of_length(16, _of("Qwen3", **GROUPED, head_dim=8)),
    "Gemma": _of("Gemma", **GROUPED, head_dim=8),
    "Gemma3": _of("Gemma3", **GROUPED, head_dim=8, image_size=None),
    "T5": _of("T5", **HEADS),
    "Bart": _of("Bart", **HEADS, **SHORT),
    "Whisper": _of(
        "Whisper",
        **HEADS,
        num_mels=8,
        max_encoder_sequence_length=64,
        max_decoder_sequence_length=32,
    ),
    "ResNet": _of(
        "ResNet",
        input_conv_filters=[64],
        input_conv_kernel_sizes=[3],
        stackwise_num_filters=[64, 128],
        stackwise_num_blocks=[1, 2],
        stackwise_num_strides=[1, 2],
        block_type="bottleneck_block",
        image_shape=PICTURE,
    ),
    "VGG": _of(
        "VGG", stackwise_num_repeats=[1, 2], stackwise_num_filters=[8, 16], image_shape=PICTURE
    ),
    "Xception": _of(
        "Xception",
        stackwise_conv_filters=[[8, 16], [16, 16]],
        stackwise_pooling=[True, False],
        image_shape=PICTURE,
    ),
    "DenseNet": _of("DenseNet", stackwise_num_repeats=[2, 2], growth_rate=8, image_shape=PICTURE),
    "CSPNet": _of(
        "CSPNet",
        stem_filters=16,
        stem_kernel_size=3,
        stem_strides=2,
        stackwise_depth=[1, 2],
        stackwise_strides=[1, 2],
        stackwise_num_filters=[16, 32],
        block_type="dark_block",
        stage_type="csp",
        bottle_ratio=[0.5, 1.0],
        block_ratio=[1.0, 0.5],
        expand_ratio=[2.0, 1.0],
        image_shape=PICTURE,
    ),
    "HGNetV2": _of(
        "HGNetV2",
        depths=[1, 1],
        embedding_size=16,
        hidden_sizes=[16, 32],
        stem_channels=[3, 8, 16],
        hidden_act="relu",
        use_learnable_affine_block=True,
        stackwise_stage_filters=[[16, 8, 16, 1, 2, 3], [16, 8, 32, 1, 2, 3]],
        apply_downsample=[False, True],
        use_lightweight_conv_block=[False, True],
        image_shape=PICTURE,
    ),
}
