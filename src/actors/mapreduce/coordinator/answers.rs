//! What an office says to those who ask about jobs. Asking changes nothing.

use super::office::{MOST_ENDED, Office};
use crate::logic::mapreduce::coordinator::JobState;
use crate::logic::mapreduce::job::Plan;
use crate::logic::mapreduce::record::{JobId, WorkerId};
use crate::messages::client::ServerError;
use crate::messages::mapreduce::{JobLine, MapReduceReply, MapReduceRequest, WorkerLine};

/// Records in one answer about the history of a job.
const PAGE: usize = 1000;

impl Office {
    pub(super) fn reply(&self, question: &MapReduceRequest) -> Result<MapReduceReply, ServerError> {
        use MapReduceRequest as Ask;
        match question {
            Ask::Jobs => {
                let lines = self.jobs.keys().filter_map(|job| self.line(*job));
                Ok(MapReduceReply::Jobs(lines.collect()))
            }
            Ask::Survey { job } => {
                let line = self.line(*job).ok_or_else(|| self.no_job(*job))?;
                Ok(MapReduceReply::Survey(Box::new(line)))
            }
            Ask::History { job, skip } => {
                let history = &self.jobs.get(job).ok_or_else(|| self.no_job(*job))?.history;
                let skip = usize::try_from(*skip).unwrap_or(usize::MAX).min(history.len());
                let records: Vec<_> = history[skip..].iter().take(PAGE).cloned().collect();
                let more = skip + records.len() < history.len();
                Ok(MapReduceReply::History { records, more })
            }
            Ask::Parts { job } => {
                let file = self.jobs.get(job).ok_or_else(|| self.no_job(*job))?;
                let form = file.plan.setup.job.output.form;
                Ok(MapReduceReply::Parts { parts: self.core.parts(*job), form })
            }
            Ask::Workers => {
                let line = |(worker, address, slots): (WorkerId, &str, u32)| WorkerLine {
                    worker,
                    address: address.to_owned(),
                    slots,
                };
                Ok(MapReduceReply::Workers(self.core.workers().map(line).collect()))
            }
            Ask::Cancel { job } | Ask::Collected { job } if !self.jobs.contains_key(job) => {
                Err(self.no_job(*job))
            }
            Ask::Cancel { .. } | Ask::Collected { .. } | Ask::Missing { .. } => Ok(MapReduceReply::Done),
            Ask::Submit { .. } | Ask::Report(_) | Ask::Extents { .. } | Ask::Fetch { .. } => {
                Err(ServerError::Invalid("not for a coordinator".to_owned()))
            }
        }
    }

    fn line(&self, job: JobId) -> Option<JobLine> {
        let file = self.jobs.get(&job)?;
        let mut survey = self.core.survey(job)?;
        if let JobState::Failed { attempt, why } = &mut survey.state {
            *why = file.locate(*attempt, std::mem::take(why));
        }
        let Plan { setup, splits } = &*file.plan;
        let skipped =
            survey.skipped.iter().map(|(task, record)| setup.place(splits, *task, *record)).collect();
        Some(JobLine {
            job,
            name: file.plan.setup.job.name.clone(),
            output: file.plan.setup.job.output.directory.clone(),
            submitted_ms: file.head.submitted_ms,
            skipped,
            survey,
        })
    }

    fn no_job(&self, job: JobId) -> ServerError {
        ServerError::Invalid(if (JobId(1)..=self.last_job).contains(&job) {
            format!(
                "job {job} is forgotten, and its output gone: of the jobs that ended, only the last {MOST_ENDED} are \
                 remembered"
            )
        } else {
            format!("there is no job {job}; `quorate mr list` shows those there are")
        })
    }
}
