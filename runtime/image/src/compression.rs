//! Tells by the first bytes how a stream is compressed. The media type is not trusted: archives have none, and registries
//! were seen to lie.

use std::io::{self, BufRead, BufReader, Read};

use flate2::bufread::MultiGzDecoder;

/// Beyond this window a zstd frame is refused: it would take that much memory to decode (zstd's own default for `--long`).
const ZSTD_WINDOW_LOG_MAX: u32 = 27;

/// The stream without its compression: gzip, zstd, or none.
pub(crate) fn decompress<'a>(stream: impl Read + 'a) -> io::Result<Box<dyn Read + 'a>> {
    let mut stream = BufReader::with_capacity(64 << 10, stream);
    let mut magic = [0; 4];
    let known = peek(&mut stream, &mut magic)?;
    Ok(match known {
        [0x1f, 0x8b, ..] => Box::new(MultiGzDecoder::new(stream)),
        [0x28, 0xb5, 0x2f, 0xfd] | [0x50..=0x5f, 0x2a, 0x4d, 0x18] => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(stream)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG_MAX)?;
            Box::new(decoder)
        }
        _ => Box::new(stream),
    })
}

/// The first bytes, as many as one filled buffer gives; they stay in the stream.
fn peek<'a, R: Read>(stream: &mut BufReader<R>, magic: &'a mut [u8; 4]) -> io::Result<&'a [u8]> {
    let head = stream.fill_buf()?;
    let length = head.len().min(magic.len());
    let (magic, _) = magic.split_at_mut(length);
    magic.copy_from_slice(head.get(..length).unwrap_or_default());
    Ok(magic)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::decompress;

    fn check(bytes: &[u8], expected: &[u8]) {
        let mut plain = Vec::new();
        decompress(bytes).expect("opened").read_to_end(&mut plain).expect("read");
        assert_eq!(plain, expected);
    }

    #[test]
    fn gzip_zstd_and_plain_streams_give_the_same_bytes() {
        let text = b"what a layer holds";
        check(text, text);
        check(b"", b"");
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        gzip.write_all(text).expect("written");
        let gzip = gzip.finish().expect("finished");
        check(&gzip, text);
        check(&[gzip.as_slice(), gzip.as_slice()].concat(), &[text.as_slice(), text.as_slice()].concat());
        check(&zstd::stream::encode_all(text.as_slice(), 3).expect("zstd"), text);
    }
}
