//! The bytes of a simulated file, in pages that are shared until they are written.
//!
//! A log writes its segments out in advance, and a power loss makes one image of a file the other: with pages, neither
//! costs more than what is really different. A page of zeros takes no memory.

use std::ops::Range;
use std::sync::Arc;

const PAGE: usize = 16 << 10;

const ZEROS: [u8; PAGE] = [0; PAGE];

type Page = Option<Arc<[u8; PAGE]>>;

/// The bytes of a file. Behind the end of an image there is nothing; within it, what was never written is zero.
#[derive(Clone, Default)]
pub(super) struct Image {
    len: usize,
    pages: Vec<Page>,
}

/// The parts of `range` by pages: the page, and the range within it.
fn parts(range: Range<usize>) -> impl Iterator<Item = (usize, Range<usize>)> {
    let pages = if range.is_empty() { 0..0 } else { range.start / PAGE..range.end.div_ceil(PAGE) };
    pages.map(move |page| {
        let first = page * PAGE;
        (page, range.start.max(first) - first..range.end.min(first + PAGE) - first)
    })
}

fn writable(page: &mut Page) -> &mut [u8; PAGE] {
    Arc::make_mut(page.get_or_insert_with(|| Arc::new([0; PAGE])))
}

impl Image {
    pub fn len(&self) -> usize {
        self.len
    }

    /// Cuts, or appends zeros.
    pub fn resize(&mut self, len: usize) {
        if len < self.len {
            self.pages.truncate(len.div_ceil(PAGE));
            if let (Some(Some(page)), true) = (self.pages.last_mut(), !len.is_multiple_of(PAGE)) {
                Arc::make_mut(page)[len % PAGE..].fill(0);
            }
        }
        self.pages.resize(len.div_ceil(PAGE), None);
        self.len = len;
    }

    /// Writes `data` at `offset`; the image grows if need be.
    pub fn write(&mut self, offset: usize, data: &[u8]) {
        let end = offset + data.len();
        if self.len < end {
            self.resize(end);
        }
        let mut rest = data;
        for (page, range) in parts(offset..end) {
            let (now, later) = rest.split_at(range.len());
            rest = later;
            if self.pages[page].is_some() || now != &ZEROS[..now.len()] {
                writable(&mut self.pages[page])[range].copy_from_slice(now);
            }
        }
    }

    /// Fills `buffer` with what stands at `offset`; false if the image ends before.
    pub fn read(&self, offset: usize, buffer: &mut [u8]) -> bool {
        let Some(end) = offset.checked_add(buffer.len()).filter(|end| *end <= self.len) else { return false };
        let mut rest = buffer;
        for (page, range) in parts(offset..end) {
            let (now, later) = rest.split_at_mut(range.len());
            rest = later;
            match &self.pages[page] {
                Some(page) => now.copy_from_slice(&page[range]),
                None => now.fill(0),
            }
        }
        true
    }

    /// Makes `range` what it is in `other`, which reaches as far; the image grows if need be.
    pub fn copy(&mut self, other: &Image, range: Range<usize>) {
        if self.len < range.end {
            self.resize(range.end);
        }
        let common_end = (self.len == other.len).then_some(self.len);
        for (page, range) in parts(range) {
            let (from, to) = (&other.pages[page], &mut self.pages[page]);
            let to_the_end = common_end == Some(page * PAGE + range.end);
            let whole = range.start == 0 && (range.end == PAGE || to_the_end);
            match from {
                _ if whole => to.clone_from(from),
                Some(from) => writable(to)[range.clone()].copy_from_slice(&from[range]),
                None if to.is_some() => writable(to)[range].fill(0),
                None => {}
            }
        }
    }

    /// Flips a bit.
    ///
    /// # Panics
    /// If the image does not reach as far.
    pub fn flip(&mut self, offset: usize, bit: u8) {
        assert!(offset < self.len, "offset {offset} is beyond the end of a file of {} bytes", self.len);
        writable(&mut self.pages[offset / PAGE])[offset % PAGE] ^= 1 << bit;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(image: &Image) -> Vec<u8> {
        let mut bytes = vec![7; image.len()];
        assert!(image.read(0, &mut bytes));
        bytes
    }

    /// A place at or beside a quarter of a page: few enough that ends of images and of ranges meet.
    fn place(rng: &mut fastrand::Rng, most: usize) -> usize {
        (rng.usize(0..12) * PAGE / 4 + rng.usize(0..2)).min(most)
    }

    /// Does what the image should do, to a plain vector.
    fn play(rng: &mut fastrand::Rng, image: &mut Image, model: &mut Vec<u8>, other: (&Image, &[u8])) {
        let at = place(rng, usize::MAX);
        match rng.u8(0..5) {
            0 => {
                image.resize(at);
                model.resize(at, 0);
            }
            1 | 2 => {
                let fill = rng.u8(0..2);
                let data = vec![fill; rng.usize(0..2 * PAGE)];
                image.write(at, &data);
                model.resize(model.len().max(at + data.len()), 0);
                model[at..at + data.len()].copy_from_slice(&data);
            }
            3 if !model.is_empty() => {
                let at = rng.usize(0..model.len());
                image.flip(at, 3);
                model[at] ^= 8;
            }
            _ => {
                let end = place(rng, other.1.len());
                let range = place(rng, end)..end;
                image.copy(other.0, range.clone());
                model.resize(model.len().max(range.end), 0);
                model[range.clone()].copy_from_slice(&other.1[range]);
            }
        }
    }

    #[test]
    fn an_image_is_a_vector_of_bytes() {
        for seed in 0..200 {
            let mut rng = fastrand::Rng::with_seed(seed);
            let (mut one, mut two) = (Image::default(), Image::default());
            let (mut first, mut second) = (Vec::new(), Vec::new());
            for _ in 0..40 {
                play(&mut rng, &mut one, &mut first, (&two, &second));
                std::mem::swap(&mut one, &mut two);
                std::mem::swap(&mut first, &mut second);
                assert!(bytes(&one) == first && bytes(&two) == second, "seed {seed}");
                assert!(!one.read(1, &mut vec![0; one.len()]), "seed {seed}");
            }
        }
    }

    #[test]
    fn of_a_page_that_both_end_in_only_what_was_asked_for_is_copied() {
        let (mut one, mut two) = (Image::default(), Image::default());
        one.write(0, &[1; 200]);
        two.write(0, &[2; 200]);
        one.copy(&two, 0..100);
        assert_eq!(bytes(&one), [[2; 100], [1; 100]].concat());
        one.copy(&two, 0..200);
        assert_eq!(bytes(&one), [2; 200]);
    }
}
