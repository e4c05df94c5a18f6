"""Reusable SavedModels as publishers make them, small and with random weights."""

import tensorflow as tf

WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "good", "bad", "film", "very", "a", "text", "title")


class Published(tf.train.Checkpoint):
    """An object with what the interface asks for."""

    def publish(self, trainable, fixed=(), losses=()):
        self.variables = [*trainable, *fixed]
        self.trainable_variables = list(trainable)
        self.regularization_losses = list(losses)


class ImageModule(Published):
    """Pixels in 0..1 to 4 features: batch normalization, dropout, an L2 penalty, `training`."""

    def __init__(self, size=16):  # None is any
        super().__init__()
        random = tf.random.Generator.from_seed(7)
        self.kernel = tf.Variable(random.normal((3, 3, 3, 4)) * 0.5, name="conv/kernel")
        self.gamma = tf.Variable(tf.ones(4) * 1.5, name="bn/gamma")
        self.mean = tf.Variable([0.1, 0.2, -0.1, 0.0], trainable=False, name="bn/moving_mean")
        self.unused = tf.Variable(1.0, name="unused")
        penalty = tf.function(lambda: 0.01 * tf.reduce_sum(self.kernel**2), input_signature=[])
        self.publish([self.kernel, self.gamma], [self.mean], [penalty])
        for mode in (True, False):
            spec = tf.TensorSpec((None, size, size, 3), tf.float32)
            self.__call__.get_concrete_function(spec, training=mode)

    @tf.function
    def __call__(self, images, training=False):
        x = tf.nn.conv2d(images, self.kernel, 2, "SAME")
        if training:
            mean = tf.reduce_mean(x, [0, 1, 2])
            self.mean.assign(0.9 * self.mean + 0.1 * mean)
        else:
            mean = tf.convert_to_tensor(self.mean)
        x = tf.nn.relu((x - mean) * self.gamma)
        x = tf.reduce_mean(x, [1, 2])
        return tf.nn.dropout(x, 0.5) if training else x


def vocabulary_table(folder):
    path = folder / "vocab.txt"
    path.write_text("\n".join(WORDS) + "\n")
    initializer = tf.lookup.TextFileInitializer(
        str(path),
        tf.string,
        tf.lookup.TextFileIndex.WHOLE_LINE,
        tf.int64,
        tf.lookup.TextFileIndex.LINE_NUMBER,
    )
    return tf.lookup.StaticHashTable(initializer, 1)


class TextModule(Published):
    """Strings to the sum of 5 numbers of each word."""

    def __init__(self, folder):
        super().__init__()
        self.table = vocabulary_table(folder)
        numbers = tf.random.Generator.from_seed(3).normal((len(WORDS), 5))
        self.embeddings = tf.Variable(numbers, name="embeddings")
        self.publish([self.embeddings])

    @tf.function(input_signature=[tf.TensorSpec((None,), tf.string)])
    def __call__(self, texts):
        ids = self.table.lookup(tf.strings.split(texts))
        rows = tf.ragged.map_flat_values(lambda i: tf.gather(self.embeddings, i), ids)
        return tf.reduce_sum(rows, axis=1)


class Preprocessor(Published):
    """Strings to ids, mask and types: 12 tokens, or as many as are asked for."""

    def __init__(self, folder):
        super().__init__()
        self.table = vocabulary_table(folder)
        self.publish([])
        texts = tf.TensorSpec((None,), tf.string)
        pieces = tf.RaggedTensorSpec((None, None), tf.int32, 1)
        length = tf.TensorSpec((), tf.int32)
        self.tokenize.get_concrete_function(texts)
        self.bert_pack_inputs.get_concrete_function([pieces], length)
        self.bert_pack_inputs.get_concrete_function([pieces, pieces], length)
        self.__call__.get_concrete_function(texts)

    @tf.function
    def tokenize(self, texts):
        return tf.cast(self.table.lookup(tf.strings.split(texts)), tf.int32)

    @tf.function
    def bert_pack_inputs(self, inputs, seq_length=12):
        rows = inputs[0].nrows()
        one = tf.ones([rows, 1], tf.int32)
        ids, types = 2 * one, 0 * one
        for number, pieces in enumerate(inputs):
            room = seq_length - 1 if len(inputs) == 1 else seq_length // 2
            pieces = tf.concat([pieces[:, : room - 1], 3 * one], axis=1)
            ids = tf.concat([ids, pieces], axis=1)
            types = tf.concat([types, tf.ones_like(pieces) * number], axis=1)
        shape = tf.stack([-1, seq_length])
        mask = tf.ones_like(ids).to_tensor(0, shape=shape)
        return {
            "input_word_ids": ids.to_tensor(0, shape=shape),
            "input_mask": mask,
            "input_type_ids": types.to_tensor(0, shape=shape),
        }

    @tf.function
    def __call__(self, texts):
        packed = self.bert_pack_inputs([self.tokenize(texts)], tf.constant(12))
        return {name: tf.ensure_shape(x, [None, 12]) for name, x in packed.items()}


class Encoder(Published):
    """Ids, mask and types to a vector of 6: the mean over what is no padding, and dropout."""

    def __init__(self):
        super().__init__()
        numbers = tf.random.Generator.from_seed(5).normal((len(WORDS), 6))
        self.words = tf.Variable(numbers, name="words/embeddings")
        self.kinds = tf.Variable(numbers[:2], name="types/embeddings")
        self.publish([self.words, self.kinds])
        spec = tf.TensorSpec((None, None), tf.int32)
        names = ("input_word_ids", "input_mask", "input_type_ids")
        for mode in (True, False):
            self.__call__.get_concrete_function(dict.fromkeys(names, spec), training=mode)

    @tf.function
    def __call__(self, inputs, training=False):
        x = tf.gather(self.words, inputs["input_word_ids"])
        x += tf.gather(self.kinds, inputs["input_type_ids"])
        mask = tf.cast(inputs["input_mask"], tf.float32)[..., None]
        pooled = tf.reduce_sum(x * mask, 1) / tf.reduce_sum(mask, 1)
        pooled = tf.nn.dropout(pooled, 0.5) if training else pooled
        return {"sequence_output": x, "pooled_output": pooled, "default": pooled}


def publish(module, folder):
    """Writes a module as a SavedModel, whose vocabulary's own file is gone."""
    tf.saved_model.save(module, str(folder))
    for name in ("vocab.txt",):
        (folder.parent / name).unlink(missing_ok=True)
    return folder
