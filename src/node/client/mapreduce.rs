//! Jobs: submitting them, and looking after them.

use super::{Client, misfit};
use crate::logic::clerk::{ClerkError, Op};
use crate::logic::mapreduce::job::{Form, Plan};
use crate::logic::mapreduce::record::{JobId, Record};
use crate::logic::mapreduce::report::{Place, Report, Work};
use crate::messages::client::Answer;
use crate::messages::mapreduce::{JobLine, MapReduceReply, MapReduceRequest, TaskOrders, WorkerLine};

impl Client {
    /// Submits a job. `token`, drawn at random, makes it safe to submit again what may have arrived: the same token is
    /// the same job.
    ///
    /// # Errors
    /// See [`ClerkError`]; [`Invalid`](ClerkError::Invalid) when the job cannot run.
    pub async fn submit_job(&self, token: u64, plan: Plan) -> Result<JobId, ClerkError> {
        match self.mapreduce(MapReduceRequest::Submit { token, plan: Box::new(plan) }).await? {
            MapReduceReply::Submitted { job } => Ok(job),
            _ => Err(misfit()),
        }
    }

    /// The jobs that are known, oldest first.
    ///
    /// # Errors
    /// See [`ClerkError`].
    pub async fn jobs(&self) -> Result<Vec<JobLine>, ClerkError> {
        match self.mapreduce(MapReduceRequest::Jobs).await? {
            MapReduceReply::Jobs(jobs) => Ok(jobs),
            _ => Err(misfit()),
        }
    }

    /// How a job is.
    ///
    /// # Errors
    /// See [`ClerkError`]; [`Invalid`](ClerkError::Invalid) when there is no such job.
    pub async fn job(&self, job: JobId) -> Result<JobLine, ClerkError> {
        match self.mapreduce(MapReduceRequest::Survey { job }).await? {
            MapReduceReply::Survey(line) => Ok(*line),
            _ => Err(misfit()),
        }
    }

    /// What happened to a job, and when, in milliseconds of Unix time.
    ///
    /// # Errors
    /// As for [`job`](Self::job).
    pub async fn job_history(&self, job: JobId) -> Result<Vec<(u64, Record)>, ClerkError> {
        let mut history = Vec::new();
        loop {
            let skip = history.len() as u64;
            match self.mapreduce(MapReduceRequest::History { job, skip }).await? {
                MapReduceReply::History { records, more } => {
                    let more = more && !records.is_empty();
                    history.extend(records);
                    if !more {
                        return Ok(history);
                    }
                }
                _ => return Err(misfit()),
            }
        }
    }

    /// Gives a job up. One that has ended stays as it is, but workers need not keep its output any more.
    ///
    /// # Errors
    /// As for [`job`](Self::job).
    pub async fn cancel_job(&self, job: JobId) -> Result<(), ClerkError> {
        self.mapreduce(MapReduceRequest::Cancel { job }).await.map(drop)
    }

    /// Where the parts of a job's output are, in order, and their form; none while it runs.
    ///
    /// # Errors
    /// As for [`job`](Self::job).
    pub async fn job_parts(&self, job: JobId) -> Result<(Vec<Place>, Form), ClerkError> {
        match self.mapreduce(MapReduceRequest::Parts { job }).await? {
            MapReduceReply::Parts { parts, form } => Ok((parts, form)),
            _ => Err(misfit()),
        }
    }

    /// Says that a part of the output cannot be had, so that it is made again.
    ///
    /// # Errors
    /// See [`ClerkError`].
    pub async fn job_part_missing(&self, work: Work, why: impl Into<String>) -> Result<(), ClerkError> {
        self.mapreduce(MapReduceRequest::Missing { work, why: why.into() }).await.map(drop)
    }

    /// Says that the output is where it belongs, so that workers need not keep it.
    ///
    /// # Errors
    /// As for [`job`](Self::job).
    pub async fn job_collected(&self, job: JobId) -> Result<(), ClerkError> {
        self.mapreduce(MapReduceRequest::Collected { job }).await.map(drop)
    }

    /// The workers that the coordinator has heard of late.
    ///
    /// # Errors
    /// See [`ClerkError`].
    pub async fn workers(&self) -> Result<Vec<WorkerLine>, ClerkError> {
        match self.mapreduce(MapReduceRequest::Workers).await? {
            MapReduceReply::Workers(workers) => Ok(workers),
            _ => Err(misfit()),
        }
    }

    /// For workers that are made for a simulation: reports, and returns what is to be done.
    pub(crate) async fn report(&self, report: Report) -> Result<TaskOrders, ClerkError> {
        match self.mapreduce(MapReduceRequest::Report(Box::new(report))).await? {
            MapReduceReply::Orders(orders) => Ok(*orders),
            _ => Err(misfit()),
        }
    }

    async fn mapreduce(&self, request: MapReduceRequest) -> Result<MapReduceReply, ClerkError> {
        match self.call(Op::MapReduce(request)).await? {
            Answer::MapReduce(reply) => Ok(reply),
            Answer::Kv(_) | Answer::Admin(_) => Err(misfit()),
        }
    }
}
