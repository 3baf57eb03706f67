//! The depot of a worker: hands out what its shelf holds to whoever asks.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use actix::prelude::*;

use super::shelf::Shelf;
use crate::actors::background::Background;
use crate::actors::caller::{Caller, Incoming, Kind};
use crate::messages::client::{Answer, RequestBody, ServerError};
use crate::messages::mapreduce::{MAX_CHUNK, MAX_EXTENTS, MapReduceReply, MapReduceRequest};

/// Requests that wait for the disk; each costs up to [`MAX_CHUNK`] bytes of memory once it is read.
const MOST_WAITING: usize = 64;

/// What a depot is given.
#[derive(Clone)]
pub struct DepotSpec {
    /// What there is.
    pub shelf: Shelf,
    /// A thread that may block.
    pub reader: Background,
    /// How many requests wait for that thread.
    pub waiting: Arc<AtomicUsize>,
}

/// See the module.
pub struct Depot {
    spec: DepotSpec,
}

impl Depot {
    /// A depot.
    pub fn new(spec: DepotSpec) -> Self {
        Depot { spec }
    }

    fn take_in(&self, caller: Caller, body: RequestBody) {
        let RequestBody::MapReduce(request) = body else {
            return caller.answer(Err(ServerError::Invalid("not for a worker".to_owned())));
        };
        if self.spec.waiting.fetch_add(1, Ordering::Relaxed) >= MOST_WAITING {
            self.spec.waiting.fetch_sub(1, Ordering::Relaxed);
            return caller
                .answer(Err(ServerError::Busy { limit: format!("{MOST_WAITING} reads of task output") }));
        }
        let (shelf, waiting) = (self.spec.shelf.clone(), self.spec.waiting.clone());
        self.spec.reader.run(move || {
            caller.answer(look_up(&shelf, &request).map(Answer::MapReduce));
            waiting.fetch_sub(1, Ordering::Relaxed);
        });
    }
}

fn look_up(shelf: &Shelf, request: &MapReduceRequest) -> Result<MapReduceReply, ServerError> {
    match request {
        MapReduceRequest::Extents { job, partition, maps } if maps.len() <= MAX_EXTENTS => {
            let extents = maps.iter().map(|attempt| shelf.extent(*job, *attempt, *partition));
            Ok(MapReduceReply::Extents(extents.collect()))
        }
        MapReduceRequest::Fetch { work, offset, length } => {
            match shelf.read(*work, *offset, (*length).min(MAX_CHUNK)) {
                Ok(Some((bytes, size))) => Ok(MapReduceReply::Chunk { bytes, size }),
                Ok(None) => Ok(MapReduceReply::Gone),
                Err(error) => Err(ServerError::Invalid(format!("cannot read {}: {error}", work.attempt))),
            }
        }
        _ => Err(ServerError::Invalid("not for a worker".to_owned())),
    }
}

impl Actor for Depot {
    type Context = Context<Self>;
}

impl Handler<Incoming> for Depot {
    type Result = ();

    fn handle(&mut self, mut incoming: Incoming, _: &mut Self::Context) {
        while let Some(ask) = incoming.take() {
            self.take_in(Caller::new(ask.reply, ask.request.id, Kind::Read), ask.request.body);
        }
    }
}
