//! Carries out what the enforcer commands, and what is due every few seconds.

use enforce::{Command, Failure, Order, Standing, Step};
use events::Event;

use super::around::{Errand, Found};
use super::plan::Plan;
use super::sysctl::Asserted;
use super::{Core, REPAIRED_MAX, files, sysctl, time};
use crate::notify;

/// Differences told one by one in a failure; the rest are counted.
const DIFFERENCES_TOLD: usize = 3;

impl Core {
    /// Carries out orders until none is left, and only then tells: who reads "applied" may send at once, and what
    /// surrounds the rules, forwarding above all, comes after they are durable.
    pub(super) fn settle(&mut self) {
        while let Some(order) = self.enforcer.poll_command() {
            self.carry_out(order);
        }
        if self.is_surrounding() {
            return;
        }
        while let Some(event) = self.enforcer.poll_event() {
            self.tell(event);
        }
        let line = self.line();
        if self.told != line {
            notify::status(&line);
            self.told = line;
        }
    }

    /// Whether a policy's surroundings are being made: what depends on the end of it waits.
    pub(super) fn is_surrounding(&self) -> bool {
        self.surrounding.is_some() && !self.enforcer.is_idle()
    }

    fn carry_out(&mut self, order: Order<Plan>) {
        let Order { step, command } = order;
        let result = match command {
            Command::ReadBack { want, live } => {
                let found = self.kernel.compare(want.as_ref(), &live);
                return self.read_back(step, found);
            }
            Command::Persist { candidate } => self.persist(candidate),
            Command::Apply { have, want, live } => {
                // Nothing is forwarded past chains that are not there.
                if have.is_none() && !self.kernel.is_guarded() {
                    self.stop_forwarding();
                }
                self.count();
                self.kernel.apply(have.as_ref(), &want, &live)
            }
            Command::Commit { policy } => self.commit(policy),
            Command::Close => {
                self.count();
                self.stop_forwarding();
                self.kernel.close()
            }
            Command::SetLive { live } => self.kernel.set_live(&live),
            Command::Surround { policy } => {
                if self.around.surround(step, &policy) {
                    self.surrounding = Some(step);
                    return;
                }
                Err(failure("nobody is there to look after interfaces; restart the service"))
            }
        };
        self.enforcer.handle_done(step, result, self.clocks.now());
    }

    fn read_back(&mut self, step: Step, found: Result<super::kernel::Comparison, netfilter::NetlinkError>) {
        let result = match found {
            Ok(found) => {
                for difference in found.own.iter().take(DIFFERENCES_TOLD) {
                    tracing::warn!(%difference, "read-back");
                }
                let count = found.own.len();
                self.tell_foreign(found.foreign);
                self.looked.compared(count, self.clocks.now().wall);
                Ok(count)
            }
            Err(error) => Err(Failure(error.to_string())),
        };
        self.enforcer.handle_read_back(step, result, self.clocks.now());
    }

    fn persist(&mut self, candidate: Plan) -> Result<(), Failure> {
        self.candidate = None;
        self.store.persist(&candidate.stored).map_err(failure)?;
        self.candidate = Some(candidate);
        Ok(())
    }

    fn commit(&mut self, policy: Option<Plan>) -> Result<(), Failure> {
        let candidate = self.candidate.take();
        let done = match policy {
            Some(plan) if candidate.is_some_and(|candidate| candidate.is(&plan)) => self.store.commit(),
            Some(plan) => self.store.write_applied(&plan.stored),
            None => self.store.forget_applied(),
        };
        done.map_err(failure)
    }

    /// Somebody is back: from a look, or from what surrounds the rules. In order: settings, then addresses and routes,
    /// which are made by now, then forwarding, then services.
    pub(super) fn found(&mut self, Found { errand, plan, stock, settings, problems }: Found) {
        self.around.is_back(errand);
        self.device_put_back(&self.carrier.drifts());
        let is_in_force = self.enforcer.standing().policy().is_some_and(|now| now.is(&plan));
        match errand {
            Errand::Look if is_in_force => {
                let mut settings = settings;
                // While a repair's surroundings are made, forwarding is off by our own hand, and goes on at their end.
                if !self.is_surrounding() {
                    settings.extend(sysctl::forwarding(true));
                }
                self.settings_found(settings);
                self.problems_found(problems);
                stock.into_iter().for_each(|stock| self.take_stock(&plan.policy, stock));
            }
            // Of another time; the next look is seconds away.
            Errand::Look => {}
            Errand::Surround(step) if self.surrounding == Some(step) => {
                self.surrounding = None;
                let result = if is_in_force {
                    self.problems_found(problems);
                    self.surround(&plan, settings)
                } else {
                    Err(failure("another policy is in force"))
                };
                self.enforcer.handle_done(step, result, self.clocks.now());
            }
            Errand::Surround(_) => {}
        }
    }

    /// What a new policy sets anew nobody else changed.
    fn surround(&mut self, plan: &Plan, settings: Asserted) -> Result<(), Failure> {
        let words = |asserted: Asserted| asserted.failed.into_iter().map(|error| error.to_string());
        let mut problems: Vec<String> = words(settings).collect();
        problems.extend(words(sysctl::forwarding(true)));
        problems.extend(
            files::write(&self.services, plan, self.carrier.who()).err().map(|error| error.to_string()),
        );
        if problems.is_empty() { Ok(()) } else { Err(Failure(problems.join("; "))) }
    }

    /// Takes up what was asked while a policy's surroundings were made; whether anything was.
    pub(super) fn resume(&mut self) -> bool {
        if self.later.is_empty() || self.is_surrounding() {
            return false;
        }
        for letter in std::mem::take(&mut self.later) {
            self.letter(letter);
        }
        true
    }

    fn problems_found(&mut self, problems: Vec<String>) {
        for problem in problems.iter().filter(|problem| !self.problems.contains(problem)) {
            tracing::warn!(problem, "interfaces");
            self.witness.note(Event::Trouble { what: events::event::text(problem) });
        }
        self.problems = problems;
    }

    fn stop_forwarding(&mut self) {
        for error in sysctl::forwarding(false).failed {
            self.warn(error.to_string());
        }
    }

    /// What is due every few seconds.
    pub(super) fn look(&mut self) {
        // A step of the clock is seen also where nothing waits for a time: codes and contracts go by it.
        self.enforcer.handle_timeout(self.clocks.now());
        match self.enforcer.standing().clone() {
            Standing::Unknown => {}
            Standing::Closed => self.look_for_drift(None),
            Standing::Applied(plan) => {
                self.around.look(&plan);
                self.look_for_drift(Some(&plan));
            }
        }
        self.record_time();
    }

    /// Tells what somebody else changed among the settings, and what could not be put back.
    fn settings_found(&mut self, Asserted { changed, failed }: Asserted) {
        let news = self.looked.settings.take(&changed, &failed, self.clocks.now().wall);
        for error in failed.iter().filter(|error| news.contains(error.name())) {
            self.witness.note(Event::Trouble { what: events::event::text(&error.to_string()) });
            self.warn(error.to_string());
        }
        if changed.is_empty() {
            return;
        }
        let words: Vec<String> = changed.iter().map(ToString::to_string).collect();
        self.witness.note(Event::SettingsChanged { settings: words.iter().collect() });
        self.warn(format!("somebody else changed settings of the kernel, put back: {}", words.join(", ")));
    }

    fn look_for_drift(&mut self, plan: Option<&Plan>) {
        if !self.enforcer.is_idle() {
            // What is found now could not be put back now, and would be taken for known at the next look.
            return;
        }
        match self.kernel.is_changed() {
            Ok(true) => {}
            Ok(false) => return self.looked.unchanged(self.clocks.now().wall),
            Err(error) => return self.warn(format!("the packet filter cannot be read: {error}")),
        }
        let now = self.clocks.now();
        match self.kernel.compare(plan, &self.enforcer.live(now)) {
            Ok(found) => {
                self.tell_foreign(found.foreign);
                self.looked.compared(found.own.len(), now.wall);
                self.keep_repaired(&found.own);
                self.repair(&found.own);
            }
            Err(error) => self.warn(format!("the packet filter cannot be read: {error}")),
        }
    }

    /// Tells what somebody else changed at the VPN's device, which is as it was.
    pub(super) fn device_put_back(&mut self, differences: &[String]) {
        let Some(first) = differences.first() else { return };
        for difference in differences.iter().take(DIFFERENCES_TOLD) {
            tracing::error!(%difference, "the VPN's device was changed by somebody else");
        }
        self.witness.note(Event::Drift { differences: differences.len(), first: events::event::text(first) });
        self.warn(format!("somebody else changed the VPN's device, put back: {}", differences.join(", ")));
        self.keep_repaired(differences);
    }

    /// Keeps what was repaired for who asks next.
    fn keep_repaired(&mut self, differences: &[String]) {
        self.repaired.extend(differences.iter().take(REPAIRED_MAX).cloned());
        while self.repaired.len() > REPAIRED_MAX {
            self.repaired.pop_front();
        }
    }

    /// Puts back what somebody else changed.
    pub(super) fn repair(&mut self, differences: &[String]) {
        let Some(first) = differences.first() else { return };
        for difference in differences.iter().take(DIFFERENCES_TOLD) {
            tracing::error!(%difference, "the packet filter was changed by somebody else");
        }
        self.witness.note(Event::Drift { differences: differences.len(), first: events::event::text(first) });
        let why = format!("somebody else changed the rules in {} places, first: {first}", differences.len());
        self.enforcer.handle_drift(why, self.clocks.now());
    }

    pub(super) fn tell_foreign(&mut self, foreign: Vec<String>) {
        if foreign != self.foreign {
            for table in &foreign {
                self.warn(table.clone());
            }
            self.witness.note(Event::ForeignTables { tables: foreign.iter().collect() });
            self.foreign = foreign;
        }
    }

    fn record_time(&mut self) {
        let now = self.clocks.now();
        let clock = self.enforcer.clock();
        let due = self.time_recorded.is_none_or(|at| now.elapsed.saturating_sub(at) >= time::RECORD_EVERY);
        if clock.is_trusted() && due {
            time::record(&self.store, clock.at(now.elapsed));
            self.time_recorded = Some(now.elapsed);
        }
    }

    /// Makes the next look record the time.
    pub(super) fn time_changed(&mut self) {
        self.time_recorded = None;
        self.record_time();
    }
}

fn failure(error: impl std::fmt::Display) -> Failure {
    Failure(error.to_string())
}
