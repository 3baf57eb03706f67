//! Scenarios as tasks on virtual time: they are written as they are told, with `sleep` and `spawn`, and only one of
//! them runs at a time.

use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use crate::world::{TaskId, World};

type Task = Pin<Box<dyn Future<Output = ()>>>;

/// What a scenario holds of the world. Cheap to clone.
#[derive(Clone)]
pub struct Lab {
    world: Rc<RefCell<World>>,
    tasks: Rc<RefCell<Tasks>>,
}

#[derive(Default)]
struct Tasks {
    running: TaskId,
    started: Vec<Task>,
}

/// Resolves to what the task returned.
pub struct Join<T>(Rc<RefCell<Option<T>>>, Lab);

impl<T> Join<T> {
    /// Waits for the end of the task.
    pub async fn end(self) -> T {
        loop {
            if let Some(value) = self.0.borrow_mut().take() {
                return value;
            }
            self.1.sleep(1).await;
        }
    }
}

impl Lab {
    pub fn new(world: World) -> Self {
        Lab { world: Rc::new(RefCell::new(world)), tasks: Rc::default() }
    }

    /// Looks at the world, or changes it.
    pub fn with<T>(&self, look: impl FnOnce(&mut World) -> T) -> T {
        look(&mut self.world.borrow_mut())
    }

    pub fn now(&self) -> Duration {
        self.with(|world| world.now)
    }

    /// Lets so many milliseconds pass.
    pub async fn sleep(&self, millis: u64) {
        self.pass(Duration::from_millis(millis)).await;
    }

    /// Lets time pass.
    pub async fn pass(&self, time: Duration) {
        let until = self.now() + time;
        let task = self.tasks.borrow().running;
        self.with(|world| world.wake_at(until, task));
        std::future::poll_fn(|_| if self.now() >= until { Poll::Ready(()) } else { Poll::Pending }).await;
    }

    /// Starts another task.
    pub fn spawn<T: 'static>(&self, task: impl Future<Output = T> + 'static) -> Join<T> {
        let result = Rc::new(RefCell::new(None));
        let slot = result.clone();
        let task = async move {
            let value = task.await;
            *slot.borrow_mut() = Some(value);
        };
        self.tasks.borrow_mut().started.push(Box::pin(task));
        Join(result, self.clone())
    }

    /// Plays a scenario to its end.
    pub fn run(&self, scenario: impl Future<Output = ()> + 'static) {
        let scenario = self.spawn(scenario);
        let mut tasks: Vec<Option<Task>> = Vec::new();
        let mut context = Context::from_waker(Waker::noop());
        let mut poll = |tasks: &mut Vec<Option<Task>>, id: TaskId| {
            self.tasks.borrow_mut().running = id;
            if let Some(task) = &mut tasks[id]
                && task.as_mut().poll(&mut context).is_ready()
            {
                tasks[id] = None;
            }
        };
        loop {
            let started = std::mem::take(&mut self.tasks.borrow_mut().started);
            let is_quiet = started.is_empty();
            for task in started {
                tasks.push(Some(task));
                let id = tasks.len() - 1;
                poll(&mut tasks, id);
            }
            if scenario.0.borrow().is_some() {
                return;
            }
            if is_quiet && let Some(task) = self.with(World::advance) {
                poll(&mut tasks, task);
            }
        }
    }
}
