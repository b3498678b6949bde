"""The numbers that onnx.proto gives the fields of its messages, as far as they are read or written here.

Each class has the name of a message, and in it each field's name in capitals is that field's number.
"""


class ModelProto:
    """The whole file."""

    GRAPH, METADATA_PROPS, TRAINING_INFO, FUNCTIONS = 7, 14, 20, 25


class TrainingInfoProto:
    """What a model has beside its graph to be trained."""

    INITIALIZATION, ALGORITHM = 1, 2


class FunctionProto:
    """An op of the model's own."""

    NODE, ATTRIBUTE_PROTO = 7, 11


class GraphProto:
    """The graph, or the branch of a node."""

    NODE, INITIALIZER, SPARSE_INITIALIZER = 1, 5, 15


class NodeProto:
    """One call of an op."""

    INPUT, OUTPUT, ATTRIBUTE = 1, 2, 5


class AttributeProto:
    """An attribute of a node: a tensor, a graph, several of these, or another value."""

    T, G, TENSORS, GRAPHS, SPARSE_TENSOR, SPARSE_TENSORS = 5, 6, 10, 11, 22, 23


class SparseTensorProto:
    """A tensor, most of which is zero."""

    VALUES, INDICES = 1, 2


class TensorProto:
    """A tensor; its bytes are in RAW_DATA or, where DATA_LOCATION has the value EXTERNAL, in another file."""

    RAW_DATA, EXTERNAL_DATA, DATA_LOCATION = 9, 13, 14
    EXTERNAL = 1


class StringStringEntryProto:
    """An entry of metadata, or of what is said of external data."""

    KEY, VALUE = 1, 2
