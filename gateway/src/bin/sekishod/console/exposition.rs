//! Samples of all roles become one text in Prometheus' exposition format (text format 0.0.4).
//! Names, kinds, helps and labels come from the closed list of families and from nowhere else.

use std::collections::BTreeMap;

use events::metrics::Kind;
use events::{Family, Sample};
use prometheus::{CounterVec, GaugeVec, Opts, Registry, TextEncoder};

/// Most series exported, whatever the roles say: what a store elsewhere has to hold for one clinic.
pub(crate) const SERIES_MAX: usize = 500;
/// The label of what has no place of its own.
const OTHER: &str = "other";

/// Samples by family and labels; every one harmless, none twice.
#[derive(Clone, Debug, Default)]
pub(crate) struct Exposition {
    families: BTreeMap<Family, BTreeMap<Vec<String>, f64>>,
}

impl Exposition {
    /// Takes a role's samples. Two of the same name add up when they count, else the later one counts.
    pub(crate) fn take(&mut self, samples: impl IntoIterator<Item = Sample>) {
        for Sample { family, labels, value } in samples {
            let is_sound = value.is_finite() && (value >= 0.0 || family.info().kind == Kind::Gauge);
            if !is_sound || labels.len() != family.info().labels.len() {
                continue;
            }
            // Made again: what another process sent is not yet harmless.
            let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
            let Sample { labels, .. } = Sample::new(family, &labels, value);
            self.add(family, labels, value);
        }
    }

    /// The text; at most [`SERIES_MAX`] series.
    ///
    /// # Errors
    /// Only when a family contradicts the format, which its own tests exclude.
    pub(crate) fn text(mut self) -> prometheus::Result<String> {
        self.cap();
        let registry = Registry::new();
        for (family, series) in &self.families {
            register(&registry, *family, series)?;
        }
        TextEncoder::new().encode_to_string(&registry.gather())
    }

    /// How many series there are.
    pub(crate) fn series(&self) -> usize {
        self.families.values().map(BTreeMap::len).sum()
    }

    fn add(&mut self, family: Family, labels: Vec<String>, value: f64) {
        let series = self.families.entry(family).or_default();
        match family.info().kind {
            Kind::Counter => *series.entry(labels).or_default() += value,
            Kind::Gauge => drop(series.insert(labels, value)),
        }
    }

    /// Zones are named by the policy, so their families may grow; every other label is of a closed set. The largest of
    /// the growing ones give way first, each keeping as many series as the next, and the sums stay right.
    fn cap(&mut self) {
        let growing: usize =
            self.families.iter().filter(|(family, _)| grows(**family)).map(|(_, s)| s.len()).sum();
        let room = SERIES_MAX.saturating_sub(self.series() - growing);
        let mut sizes: Vec<usize> =
            self.families.iter().filter(|(family, _)| grows(**family)).map(|(_, s)| s.len()).collect();
        let share = share(&mut sizes, room);
        for (family, series) in self.families.iter_mut().filter(|(family, _)| grows(**family)) {
            fold(*family, series, share);
        }
        // Nothing of a closed set comes near; should it, the end of the list is cut rather than the store flooded.
        while self.series() > SERIES_MAX && self.families.pop_last().is_some() {}
    }
}

/// Whether a family's labels are names of zones, or of a list as long as that of what an inspection can find.
fn grows(family: Family) -> bool {
    family.info().labels.iter().any(|label| ["from", "to", "zone", "finding"].contains(label))
}

/// The largest number of series that each may have when all together have this much room.
fn share(sizes: &mut [usize], mut room: usize) -> usize {
    sizes.sort_unstable();
    let mut left = sizes.len();
    for size in sizes {
        let fair = room / left.max(1);
        if *size > fair {
            return fair;
        }
        room -= *size;
        left -= 1;
    }
    usize::MAX
}

/// Keeps so many series; the rest is added up under one label.
fn fold(family: Family, series: &mut BTreeMap<Vec<String>, f64>, keep: usize) {
    if series.len() <= keep {
        return;
    }
    let mut sum = 0.0;
    while series.len() >= keep.max(1) {
        let Some((_, value)) = series.pop_last() else { break };
        sum += value;
    }
    let other = family.info().labels.iter().map(|_| OTHER.to_owned()).collect();
    *series.entry(other).or_default() += sum;
}

fn register(
    registry: &Registry,
    family: Family,
    series: &BTreeMap<Vec<String>, f64>,
) -> prometheus::Result<()> {
    let info = family.info();
    let opts = Opts::new(info.full_name(), info.help);
    match info.kind {
        Kind::Counter => {
            let counters = CounterVec::new(opts, info.labels)?;
            for (labels, value) in series {
                counters.get_metric_with_label_values(labels)?.inc_by(*value);
            }
            registry.register(Box::new(counters))
        }
        Kind::Gauge => {
            let gauges = GaugeVec::new(opts, info.labels)?;
            for (labels, value) in series {
                gauges.get_metric_with_label_values(labels)?.set(*value);
            }
            registry.register(Box::new(gauges))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Every family with labels as many as it has, `count` series each.
    fn everything(count: usize) -> Vec<Sample> {
        let label = |number: usize| format!("l{number}");
        let series = |family: &Family| {
            let family = *family;
            let count = if family.info().labels.is_empty() { 1 } else { count };
            (0..count).map(move |number| {
                let labels = vec![label(number); family.info().labels.len()];
                Sample { family, labels, value: 1.0 }
            })
        };
        Family::ALL.iter().flat_map(series).collect()
    }

    #[test]
    fn every_family_comes_out_as_it_is_listed() {
        let mut exposition = Exposition::default();
        exposition.take(everything(1));
        let text = exposition.text().unwrap();
        for family in Family::ALL {
            let info = family.info();
            let name = info.full_name();
            let kind = if info.kind == Kind::Counter { "counter" } else { "gauge" };
            assert!(
                text.contains(&format!("# HELP {name} {}\n# TYPE {name} {kind}\n{name}", info.help)),
                "{name}"
            );
        }
    }

    #[test]
    fn counters_of_two_roles_add_up_and_gauges_do_not() {
        let mut exposition = Exposition::default();
        let twice = [
            Sample::new(Family::Troubles, &[], 2.0),
            Sample::new(Family::Troubles, &[], 3.0),
            Sample::new(Family::RoleUp, &["core"], 1.0),
            Sample::new(Family::RoleUp, &["core"], 0.0),
        ];
        exposition.take(twice);
        let text = exposition.text().unwrap();
        assert!(text.contains("\nsekisho_troubles_total 5\n"), "{text}");
        assert!(text.contains("\nsekisho_role_up{role=\"core\"} 0\n"), "{text}");
    }

    #[test]
    fn what_a_role_should_not_have_sent_is_left_out_or_made_harmless() {
        let mut exposition = Exposition::default();
        let sample = |family, labels: &[&str], value| Sample {
            family,
            labels: labels.iter().map(ToString::to_string).collect(),
            value,
        };
        exposition.take([
            sample(Family::Troubles, &[], -1.0),
            sample(Family::Troubles, &["more"], 1.0),
            sample(Family::ClockOffset, &[], f64::NAN),
            sample(Family::DeniedPackets, &["192.168.1.1", "a\n\"b"], 1.0),
        ]);
        let text = exposition.text().unwrap();
        assert!(!text.contains("troubles") && !text.contains("clock_offset"), "{text}");
        assert!(
            text.ends_with("sekisho_denied_packets_total{reason=\"a_\\\"b\",zone=\"other\"} 1\n"),
            "{text}"
        );
    }

    #[test]
    fn too_many_zones_end_in_other_and_nothing_is_lost_from_the_sums() {
        let mut exposition = Exposition::default();
        let pair = |number: usize| format!("zone-{number}");
        for number in 0..400 {
            let labels = [pair(number), pair(number + 1)];
            let labels = [labels[0].as_str(), labels[1].as_str()];
            exposition.take([
                Sample::new(Family::AllowedBytes, &labels, 7.0),
                Sample::new(Family::AllowedPackets, &labels, 1.0),
            ]);
        }
        exposition.take([Sample::new(Family::DenialsTold, &["guest"], 3.0)]);
        exposition.take([Sample::new(Family::Enforcement, &["applied"], 1.0)]);
        let text = exposition.text().unwrap();
        let lines: Vec<_> = text.lines().filter(|line| !line.starts_with('#')).collect();
        assert!(lines.len() <= SERIES_MAX && lines.len() > SERIES_MAX - 4, "{}", lines.len());
        assert!(lines.contains(&"sekisho_denials_logged_total{zone=\"guest\"} 3"));
        assert!(lines.contains(&"sekisho_enforcement_state{state=\"applied\"} 1"));
        let sum = |name: &str| -> f64 {
            let of = lines.iter().filter(|line| line.starts_with(name));
            of.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
        };
        assert_eq!(sum("sekisho_allowed_bytes_total"), 2800.0);
        assert_eq!(sum("sekisho_allowed_packets_total"), 400.0);
    }

    #[test]
    fn even_a_flood_in_every_family_stays_below_the_cap() {
        let mut exposition = Exposition::default();
        exposition.take(everything(300));
        let text = exposition.text().unwrap();
        assert!(text.lines().filter(|line| !line.starts_with('#')).count() <= SERIES_MAX);
    }

    proptest! {
        #[test]
        fn any_labels_make_a_text_of_one_line_a_series(labels in prop::collection::vec(".{0,60}", 2), value in any::<f64>()) {
            let mut exposition = Exposition::default();
            exposition.take([Sample { family: Family::DeniedPackets, labels, value }]);
            let series = exposition.series();
            let text = exposition.text().unwrap();
            prop_assert_eq!(text.lines().filter(|line| !line.starts_with('#')).count(), series);
        }
    }
}
