"""CompactorsByHand: what stands for a method where compactors were put into a model by hand."""

from resrep_keras.methods.channels.channel_method import ChannelMethod


class CompactorsByHand(ChannelMethod):
    """No target and no settings of its own: `finalize` removes what is dead."""

    needs_target = False

    def __init__(self):
        super().__init__(target_reduction=None)
