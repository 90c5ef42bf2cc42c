//! Makes a thumbnail of the PNG or JPEG in the request's body: a handler that computes.
//!
//! While it does, the host takes the processor away from it every millisecond: others go on as if it were not there.
//! What it cannot be trusted with, a stranger's picture, is bounded twice: by the limits below, which give an answer
//! that says what was wrong, and by the sandbox, which holds whatever the decoder does.

use image::{DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits, imageops::FilterType};
use std::io::Cursor;
use tidegate_sdk::{Error, Request, Response, Result, StatusCode, handler};

/// Bytes of a picture as it is sent.
const BODY_BYTES_MAX: usize = 4 << 20;
/// A file of a few kilobytes can unfold into gigabytes. What may be inside is asked before it is unfolded: 4 million
/// pixels need at most 48 MB on the way, and a handler has 64 MiB unless its manifest says otherwise.
const PIXELS_MAX: u64 = 4_000_000;
const SIDE_MAX: u32 = 8192;
/// Of the thumbnail.
const WIDTH_MAX: u32 = 512;
const WIDTH: u32 = 200;

#[handler]
fn resize(mut request: Request) -> Result<Response> {
    let width = width(&request)?;
    let picture = decode(request.body().bytes_limited(BODY_BYTES_MAX)?)?;

    // It keeps its shape, and fits into a square as wide as was asked for. Nothing is made larger.
    let side = width.min(picture.width().max(picture.height()));
    let thumbnail = picture.resize(side, side, FilterType::Lanczos3);

    let mut png = Cursor::new(Vec::new());
    thumbnail.write_to(&mut png, ImageFormat::Png)?;
    Ok(Response::bytes(png.into_inner()).with_header("content-type", "image/png"))
}

/// The parameter `width` of the query.
fn width(request: &Request) -> Result<u32> {
    let Some(text) = request.query_param("width") else { return Ok(WIDTH) };
    let width = text.parse().ok().filter(|width| (1..=WIDTH_MAX).contains(width));
    width.ok_or_else(|| {
        Error::status(StatusCode::BAD_REQUEST, format!("width is a number from 1 to {WIDTH_MAX}"))
    })
}

fn decode(bytes: Vec<u8>) -> Result<DynamicImage> {
    // The bytes say what they are; what the client calls them does not matter.
    let format = match image::guess_format(&bytes) {
        Ok(format @ (ImageFormat::Png | ImageFormat::Jpeg)) => format,
        _ => return Err(Error::status(StatusCode::UNSUPPORTED_MEDIA_TYPE, "send a PNG or a JPEG")),
    };
    let mut limits = Limits::default();
    limits.max_image_width = Some(SIDE_MAX);
    limits.max_image_height = Some(SIDE_MAX);
    // 16 bits a channel, four channels.
    limits.max_alloc = Some(8 * PIXELS_MAX);

    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    reader.limits(limits);
    let decoder = reader.into_decoder().map_err(refused)?;
    let (width, height) = decoder.dimensions();
    if u64::from(width) * u64::from(height) > PIXELS_MAX {
        return Err(too_large());
    }
    DynamicImage::from_decoder(decoder).map_err(refused)
}

fn too_large() -> Error {
    let limits = format!("at most {PIXELS_MAX} pixels are taken, and {SIDE_MAX} a side");
    Error::status(StatusCode::PAYLOAD_TOO_LARGE, limits)
}

/// What the decoder says of the picture goes to the log; the client learns whose fault it was.
fn refused(error: ImageError) -> Error {
    match error {
        ImageError::Limits(_) => too_large().with_source(error),
        ImageError::Unsupported(_) => {
            Error::status(StatusCode::UNSUPPORTED_MEDIA_TYPE, "this kind of PNG or JPEG is not supported")
                .with_source(error)
        }
        _ => Error::status(StatusCode::UNPROCESSABLE_ENTITY, "the picture is damaged").with_source(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidegate_sdk::test::{self, Answer};

    fn encoded(width: u32, height: u32, format: ImageFormat) -> Vec<u8> {
        let mut bytes = Cursor::new(Vec::new());
        DynamicImage::new_rgb8(width, height).write_to(&mut bytes, format).unwrap();
        bytes.into_inner()
    }

    fn sent(target: &str, body: impl Into<Vec<u8>>) -> Answer {
        test::app(resize).post(target, body)
    }

    #[test]
    fn a_thumbnail_keeps_the_shape() {
        for format in [ImageFormat::Png, ImageFormat::Jpeg] {
            for (target, size) in [("/", (200, 100)), ("/?width=50", (50, 25)), ("/?width=512", (400, 200))] {
                let answer = sent(target, encoded(400, 200, format));
                answer.assert_status(200);
                let thumbnail = image::load_from_memory(&answer.body).unwrap();
                assert_eq!((thumbnail.width(), thumbnail.height()), size);
            }
        }
    }

    #[test]
    fn halves_stay_on_their_sides_and_nothing_is_made_larger() {
        let halves =
            image::RgbImage::from_fn(90, 360, |x, _| image::Rgb([if x < 45 { 250 } else { 0 }, 0, 0]));
        for (target, size) in [("/?width=500", (90, 360)), ("/?width=100", (25, 100))] {
            let mut bytes = Cursor::new(Vec::new());
            halves.write_to(&mut bytes, ImageFormat::Png).unwrap();
            let thumbnail =
                image::load_from_memory(&sent(target, bytes.into_inner()).body).unwrap().to_rgb8();
            assert_eq!(thumbnail.dimensions(), size);
            assert!(thumbnail[(0, 0)][0] > 230 && thumbnail[(size.0 - 1, size.1 - 1)][0] < 25);
        }
    }

    /// Under `tidegate test`: it fits into the memory that handlers have by default.
    #[test]
    fn the_largest_picture_that_is_taken() {
        let mut bytes = Cursor::new(Vec::new());
        DynamicImage::new_rgba16(2000, 2000).write_to(&mut bytes, ImageFormat::Png).unwrap();
        sent("/?width=512", bytes.into_inner()).assert_status(200);
    }

    #[test]
    fn what_is_no_picture_for_us_has_a_status_that_says_so() {
        let png = encoded(20, 10, ImageFormat::Png);
        let large = encoded(2001, 2000, ImageFormat::Png);
        let cases: [(&str, &[u8], u16); 6] = [
            ("/?width=1000000", &png, 400),
            ("/", b"plain text", 415),
            ("/", &png[..40], 422),
            ("/", &large, 413),
            ("/", &encoded(9000, 1, ImageFormat::Png), 413),
            ("/", &vec![0; BODY_BYTES_MAX + 1], 413),
        ];
        for (target, body, status) in cases {
            assert_eq!(sent(target, body).status.unwrap(), status, "{target}, {} bytes", body.len());
        }
    }
}
