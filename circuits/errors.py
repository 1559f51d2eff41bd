"""Everything that can go wrong between a prompt and its graph, one class a cause."""


class CircuitError(Exception):
    """Any complaint of this package about a model, a dictionary, a prompt or a target."""


class UnknownModel(CircuitError, LookupError):
    """No shipped model, folder or Hub model goes by that name, or its folder cannot be read."""


class UnsupportedModel(CircuitError, ValueError):
    """The model's architecture is not in `circuits.families.FAMILIES`."""


class UnfaithfulModel(CircuitError, ArithmeticError):
    """The frozen model does not reproduce the real one's logits: it would trace wrongly, so it is refused."""


class UnknownTranscoders(CircuitError, LookupError):
    """No shipped set, folder or Hub set goes by that name, or its layout is not recognised."""


class DamagedTranscoders(CircuitError, ValueError):
    """A file of the set is truncated, holds something else than it should, or contradicts its configuration."""


class UnfitTranscoders(CircuitError, ValueError):
    """The set does not belong to this model: other layers, width or tensors."""


class BadPrompt(CircuitError, ValueError):
    """The prompt is empty, too long, or holds a word that the tokenizer does not know."""


class BadPairs(CircuitError, ValueError):
    """A file of clean and corrupted prompts cannot be read, is empty, or holds a line that is no pair."""


class BadTexts(CircuitError, ValueError):
    """A file of texts to train on cannot be read, is empty, too short, or not in the model's words."""


class BadRun(CircuitError, ValueError):
    """A training cannot begin or go on in that folder: something else is there, or a run of other settings."""


class BadTarget(CircuitError, ValueError):
    """A target is no single token of the model."""


class BadOption(CircuitError, ValueError):
    """An option has a value that makes no sense."""


class BadIntervention(CircuitError, ValueError):
    """An intervention names a node that is not there, or a value that is no number."""


class NotConserved(CircuitError, ArithmeticError):
    """A target's inputs do not add up to its value. A bug, or numbers too large for the dtype: no graph is made."""


class WrongGraph(CircuitError, ValueError):
    """The graph was made with another model or dictionary than the ones given."""


class NoRoom(CircuitError, MemoryError):
    """A model, or what is asked of it, needs more memory than there is."""


class NotFetched(CircuitError, LookupError):
    """The Hub does not give what was asked for: gated, unknown, switched off, out of reach, or no room for it here."""


class NotUploaded(CircuitError, OSError):
    """A server does not take a graph, cannot be reached, or there is no key for it."""
