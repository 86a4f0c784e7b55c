"""CompactorsByHand: what stands for a method where compactors were put into a model by hand."""

import dataclasses
import typing

from resrep_keras.methods.channels.channel_method import ChannelMethod


@dataclasses.dataclass(eq=False, repr=False)
class CompactorsByHand(ChannelMethod):
    """No target and no training of its own: `finalize` removes what is dead."""

    target_reduction: None = None

    needs_target: typing.ClassVar[bool] = False
