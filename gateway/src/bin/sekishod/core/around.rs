//! What surrounds the rules and others answer for: interfaces, addresses, routes, neighbours, settings of the kernel. A task
//! of its own alone holds rtnetlink and waits for it; nothing that core answers does. What was found goes to the loop, in
//! which alone core's state lives; what opens or closes (forwarding) is the loop's to do.

use std::sync::Arc;

use enforce::Step;
use jiff::Timestamp;
use policy::guideline::observation::ReversePath;
use policy::model::Policy;
use tokio::sync::mpsc;

use super::carrier::Carrier;
use super::network::{Neighbour, Network, NetworkError, Settled};
use super::plan::Plan;
use super::sysctl::{self, Asserted};
use super::{Ready, measure, tun};

/// Errands that wait: one look and one apply's.
const ERRANDS_MAX: usize = 2;

/// Why somebody is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Errand {
    /// The regular look.
    Look,
    /// A policy came into force: this step of the enforcer's waits.
    Surround(Step),
}

/// What came of an errand.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) errand: Errand,
    /// The policy that it was about: another may be in force by now.
    pub(super) plan: Plan,
    /// How things were before anything was put right.
    pub(super) stock: Option<Stock>,
    pub(super) settings: Asserted,
    /// What could not be done about interfaces, in words.
    pub(super) problems: Vec<String>,
}

/// What only a look can tell.
#[derive(Debug)]
pub(super) struct Stock {
    pub(super) at: Timestamp,
    pub(super) paths: ReversePath,
    /// None when the kernel did not say.
    pub(super) neighbours: Option<Vec<Neighbour>>,
}

/// The way to the task.
#[derive(Debug)]
pub(super) struct Around {
    errands: mpsc::Sender<(Errand, Plan)>,
    /// A look is under way.
    is_looking: bool,
}

impl Around {
    /// Starts the task; must be called inside the runtime.
    pub(super) fn start(ready: mpsc::Sender<Ready>, carrier: Arc<Carrier>) -> Result<Self, NetworkError> {
        let network = Network::open()?;
        let (errands, taken) = mpsc::channel(ERRANDS_MAX);
        tokio::spawn(run(network, carrier, taken, ready));
        Ok(Around { errands, is_looking: false })
    }

    /// Sends somebody to look, unless one is under way.
    pub(super) fn look(&mut self, plan: &Plan) {
        if !self.is_looking {
            self.is_looking = self.send(Errand::Look, plan);
        }
    }

    /// Has the surroundings made as a policy wants them; whether somebody went.
    pub(super) fn surround(&mut self, step: Step, plan: &Plan) -> bool {
        self.send(Errand::Surround(step), plan)
    }

    /// An errand was done.
    pub(super) fn is_back(&mut self, errand: Errand) {
        if errand == Errand::Look {
            self.is_looking = false;
        }
    }

    fn send(&self, errand: Errand, plan: &Plan) -> bool {
        self.errands.try_send((errand, plan.clone())).is_ok()
    }
}

async fn run(
    mut network: Network,
    carrier: Arc<Carrier>,
    mut errands: mpsc::Receiver<(Errand, Plan)>,
    ready: mpsc::Sender<Ready>,
) {
    while let Some((errand, plan)) = errands.recv().await {
        let stock = match errand {
            Errand::Look => Some(take_stock(&network, &plan.policy).await),
            Errand::Surround(_) => None,
        };
        let mut settings = sysctl::general();
        let device = tun::settle(&network, &carrier, &plan.policy).await;
        let Settled { mut problems, changed } = settle(&mut network, &plan.policy).await;
        problems.extend(device);
        settings.changed.extend(changed);
        let found = Found { errand, plan, stock, settings, problems };
        if ready.send(Ready::Found(Box::new(found))).await.is_err() {
            return;
        }
    }
}

/// Reads how things are, and has neighbours that were silent lately asked whether they are still there: the next look
/// knows.
async fn take_stock(network: &Network, policy: &Policy) -> Stock {
    let (at, paths) = (Timestamp::now(), measure::reverse_paths(policy));
    let looked = async {
        let table = network.neighbours().await?;
        let probed = network.probe(table.iter().filter(|one| measure::is_asked(policy, one))).await;
        if let Err(error) = probed {
            tracing::warn!(%error, "silent neighbours cannot be asked");
        }
        Ok::<_, NetworkError>(table)
    };
    let neighbours = looked.await.inspect_err(|error| {
        tracing::warn!(%error, "the neighbours cannot be looked at");
    });
    Stock { at, paths, neighbours: neighbours.ok() }
}

/// Brings addresses and routes to what the policy has.
async fn settle(network: &mut Network, policy: &Policy) -> Settled {
    let settled = network.settle(policy).await;
    settled.unwrap_or_else(|error| Settled { problems: vec![error.to_string()], ..Settled::default() })
}
