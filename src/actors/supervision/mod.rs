//! Supervision of actix actors, after Erlang/OTP.

pub use child::{Child, ChildContext, ChildSpec, OnHang, Place, Restart};
pub use current::{CurrentActor, current_actor, install_panic_hook};
pub use exit::Exit;
pub use fair::Fair;
pub use handle::{ChildError, Pending, SupervisorRef};
pub use port::{AskError, Gone, Port, Slot};
pub use registry::{Hang, NoSuchActor, Registry};
pub use status::{State, Status};
pub use supervisor::{Strategy, Supervisor};
pub use watchdog::Watchdog;

mod child;
mod core;
mod current;
mod exit;
mod fair;
mod handle;
mod heartbeat;
mod life;
mod orders;
mod port;
mod registry;
mod runner;
mod status;
mod supervisor;
mod watchdog;
