"""Everything that can go wrong with a graph, one class a cause, each under the builtin that callers expect."""


class GraphError(Exception):
    """Any complaint of this package about a graph, a store or a picture."""


class BadGraph(GraphError, ValueError):
    """The parts do not make a graph: lengths differ, an edge points backward, a weight is not finite."""


class BadOption(GraphError, ValueError):
    """An option has a value that makes no sense."""


class ForeignFolder(GraphError, ValueError):
    """A folder or file that is no graph of ours, or a damaged one."""


class ForeignFile(GraphError, ValueError):
    """A file of another program that holds no graph, or one that cannot be."""


class UnknownGraph(GraphError, LookupError):
    """The store holds no graph under that name, or more than one."""


class UnknownStore(GraphError, NotADirectoryError):
    """The store's path leads to a file, or to a folder that may not be read."""


class UnreachableStore(GraphError, RuntimeError):
    """The store's address does not answer, or does not know who asks."""


class BadQuery(GraphError, ValueError):
    """A question in SQL that cannot be answered: it does not fit the tables, would change them, or takes too much."""


class CannotWrite(GraphError, OSError):
    """The output could not be written: no permission, no space, not a folder."""


class UnknownPicture(GraphError, ValueError):
    """No exporter writes files with that ending."""


class MissingProgram(GraphError, RuntimeError):
    """A program outside Python (Graphviz's `dot`) is needed and not installed."""
