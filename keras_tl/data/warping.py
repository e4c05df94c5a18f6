"""Moves pixels: flips, crops, turns and shears as one bilinear resampling."""

import tensorflow as tf


def affine(
    size: tf.Tensor,
    *,
    scale_x: tf.Tensor,
    scale_y: tf.Tensor,
    angle: tf.Tensor,
    shift_x: tf.Tensor,
    shift_y: tf.Tensor,
    output_size: tf.Tensor | None = None,
) -> tf.Tensor:
    """Says for each output pixel where in the input its colour is found.

    Coordinates are pixel indices; the output's are measured from the centre, scaled, turned and
    shifted, in this order.

    Args:
        size: Height and width of the image in pixels, float32.
        scale_x: Columns of the image for each column of the output; negative mirrors left and
            right. Where both have the same size, it is the crop's share of the width.
        scale_y: Rows of the image for each row of the output.
        angle: Radians by which the content turns counter-clockwise.
        shift_x: Columns from the image's centre to the crop's.
        shift_y: Rows from the image's centre to the crop's.
        output_size: Height and width of the output; by default those of the image.

    Returns:
        float32 `[8]`, a transform of `tf.raw_ops.ImageProjectiveTransformV3`.
    """
    cos, sin = tf.cos(angle), tf.sin(angle)
    matrix = (cos * scale_x, -sin * scale_y, sin * scale_x, cos * scale_y)
    return about_centre(size, matrix, (shift_x, shift_y), output_size)


def about_centre(
    size: tf.Tensor,
    matrix: tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor],
    shift: tuple[tf.Tensor, tf.Tensor],
    output_size: tf.Tensor | None = None,
) -> tf.Tensor:
    """Makes a transform of a matrix that acts on distances from the centre.

    Args:
        size: Height and width of the image in pixels, float32.
        matrix: Row by row, for (x, y) of the output.
        shift: Columns and rows that are added.
        output_size: Height and width of the output; by default those of the image.

    Returns:
        float32 `[8]`, see `affine`.
    """
    a, b, c, d = matrix
    centre = (size - 1) / 2
    middle = centre if output_size is None else (output_size - 1) / 2
    start_x = centre + shift[0] - (a + b) * middle
    start_y = centre + shift[1] - (c + d) * middle
    return tf.stack([a, b, start_x, c, d, start_y, 0.0, 0.0])


def warp(image: tf.Tensor, matrix: tf.Tensor, output_size: tf.Tensor | None = None) -> tf.Tensor:
    """Resamples float32 `[height, width, channels]` bilinearly, mirrored at the edges.

    Args:
        image: The image.
        matrix: See `affine`.
        output_size: Height and width of the output; by default those of the image.
    """
    shape = tf.shape(image)[:2]
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=image[None],
        transforms=matrix[None],
        output_shape=shape if output_size is None else tf.fill((2,), output_size),
        fill_value=0.0,
        interpolation="BILINEAR",
        fill_mode="REFLECT",
    )[0]
