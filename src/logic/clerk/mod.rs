//! The client's core: it finds the leader, retries, and knows what a failure means.
//!
//! A [`Clerk`] is a value with one door, [`Clerk::step`]: it is given a call, a response, news about a link or the
//! passing of time, and says which requests are to be sent, which addresses to be dialled and which calls are done.
//!
//! # Promises
//!
//! * **With a session** (the default) a change takes effect exactly once, however often it had to be sent. The caller
//!   is told [`ClerkError::Maybe`] only when the change's fate was unknown and the session itself was lost, or a limit
//!   at the server's door kept the clerk from asking again.
//! * **Stateless**, the server keeps nothing per client, and a lost reply is reported: a conditional put that is
//!   refused for its version after a transmission of unknown fate ends in `Maybe`; `rules` holds the whole table.
//! * Every call ends in time when it has a deadline, and [`ClerkError::Timeout`] says whether the change may have taken
//!   effect. Without a deadline it is retried for ever.
//! * A change that was given up is never sent again, and the next acknowledgement makes the machine refuse copies of it
//!   that are still on their way (see `session`).
//! * No storms: one probe at a time looks for the leader, pauses have full jitter, and everything is bounded.
//!
//! # Reading order
//!
//! | file | what it holds |
//! |---|---|
//! | `call` | what is asked, and which node can answer |
//! | `error` | what a call may end in, by what the caller does next |
//! | `rules` | retrying without a session: what may be repeated, what a refusal means then |
//! | `session` | numbers, window, acknowledgement |
//! | `endpoints` | addresses, dialling, who answers where |
//! | `route` | finding a group's leader |
//! | `pending` | the calls under way, and which one a response answers |
//! | `core` | the clerk itself: its inputs, outputs, and the deadline of everything |
//! | `dispatch` | from the call to the request |
//! | `answers` | from the response to the result, or to the next attempt |
//!
//! # What it does not do
//!
//! It opens no connection, reads no clock and knows no caller: `actors::clerk` does. It does not split calls over
//! groups; a call names its group.

mod answers;
mod backoff;
mod call;
mod core;
mod dispatch;
mod endpoints;
mod error;
mod pending;
mod route;
mod rules;
mod session;
#[cfg(test)]
mod tests;

pub use self::call::{Call, CallId, Op, Outcome};
pub use self::core::{Clerk, ClerkOptions, Input, Output};
pub use self::endpoints::EndpointId;
pub use self::error::ClerkError;
