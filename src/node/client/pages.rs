//! Walking over many keys: an answer has a budget of bytes, so a range comes in pages.

use bytes::Bytes;

use super::{Client, misfit};
use crate::logic::clerk::ClerkError;
use crate::logic::kv::command::{Pair, Query, Reply};

/// How much one page may hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PageLimit {
    /// At most so many pairs; 0, the default: as many as the budget of bytes allows.
    pub max_keys: u32,
    /// At most so many bytes of keys and values; 0, the default: the server's limit. One pair always fits.
    pub max_bytes: u32,
    /// Leave the values out.
    pub keys_only: bool,
}

/// Some of the keys asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// The pairs, in byte order of the keys.
    pub pairs: Vec<Pair>,
    /// Where to continue: the `start` of the next range, or the `after` of the next prefix. `None`: that was all.
    /// A page without pairs need not be the last.
    pub cursor: Option<Bytes>,
}

impl Client {
    /// One page of the keys from `start` (inclusive) to `end` (exclusive; `None`: to the last key).
    ///
    /// # Errors
    /// See [`ClerkError`].
    pub async fn range(
        &self,
        start: impl Into<Bytes>,
        end: Option<Bytes>,
        limit: PageLimit,
    ) -> Result<Page, ClerkError> {
        let PageLimit { max_keys, max_bytes, keys_only } = limit;
        self.page(Query::Range { start: start.into(), end, max_keys, max_bytes, keys_only }).await
    }

    /// One page of the keys that begin with `prefix`, from behind the key `after` where given.
    ///
    /// # Errors
    /// See [`ClerkError`].
    pub async fn prefix(
        &self,
        prefix: impl Into<Bytes>,
        after: Option<Bytes>,
        limit: PageLimit,
    ) -> Result<Page, ClerkError> {
        let PageLimit { max_keys, max_bytes, keys_only } = limit;
        self.page(Query::Prefix { prefix: prefix.into(), after, max_keys, max_bytes, keys_only }).await
    }

    /// All pages of a range, one after the other. Each page is as fresh as a read is; the whole is not one moment's
    /// state.
    pub fn range_pages(&self, start: impl Into<Bytes>, end: Option<Bytes>, limit: PageLimit) -> Pages {
        Pages { client: self.clone(), limit, walk: Walk::Range { start: start.into(), end }, over: false }
    }

    /// All pages of a prefix, one after the other, as for [`range_pages`](Self::range_pages).
    pub fn prefix_pages(&self, prefix: impl Into<Bytes>, limit: PageLimit) -> Pages {
        let walk = Walk::Prefix { prefix: prefix.into(), after: None };
        Pages { client: self.clone(), limit, walk, over: false }
    }

    async fn page(&self, query: Query) -> Result<Page, ClerkError> {
        match self.read(query).await? {
            Reply::Pairs { pairs, cursor } => Ok(Page { pairs, cursor }),
            _ => Err(misfit()),
        }
    }
}

/// The pages of a range or prefix.
#[derive(Debug)]
pub struct Pages {
    client: Client,
    limit: PageLimit,
    walk: Walk,
    over: bool,
}

#[derive(Debug)]
enum Walk {
    Range { start: Bytes, end: Option<Bytes> },
    Prefix { prefix: Bytes, after: Option<Bytes> },
}

impl Pages {
    /// The next pairs, which may be none; `None` behind the last page. After an error it may be called again for the
    /// same page.
    ///
    /// # Errors
    /// See [`ClerkError`].
    pub async fn next(&mut self) -> Result<Option<Vec<Pair>>, ClerkError> {
        if self.over {
            return Ok(None);
        }
        let Page { pairs, cursor } = match &self.walk {
            Walk::Range { start, end } => self.client.range(start.clone(), end.clone(), self.limit).await?,
            Walk::Prefix { prefix, after } => {
                self.client.prefix(prefix.clone(), after.clone(), self.limit).await?
            }
        };
        match (cursor, &mut self.walk) {
            (None, _) => self.over = true,
            (Some(cursor), Walk::Range { start, .. }) => *start = cursor,
            (Some(cursor), Walk::Prefix { after, .. }) => *after = Some(cursor),
        }
        Ok(Some(pairs))
    }

    /// All pairs that are left, in memory.
    ///
    /// # Errors
    /// See [`ClerkError`].
    pub async fn all(mut self) -> Result<Vec<Pair>, ClerkError> {
        let mut all = Vec::new();
        while let Some(pairs) = self.next().await? {
            all.extend(pairs);
        }
        Ok(all)
    }
}
