//! Every question of every panel, rule and alert: it parses, names only what is exported or recorded, and together they
//! leave no metric out.

use std::collections::{BTreeMap, BTreeSet};

use dashboard::Thresholds;
use dashboard::promql::{JOB, SCRAPE_LABELS};
use events::metrics::{Family, Kind};
use promql_parser::label::{Labels, MatchOp, Matchers};
use promql_parser::parser::{self, AggregateExpr, Call, Expr, LabelModifier};
use promql_parser::util::{ExprVisitor, walk_expr};

/// What Prometheus itself knows, with the labels that are used of it.
const BUILT_IN: [(&str, &[&str]); 2] = [("up", &[]), ("ALERTS", &["alertname", "alertstate", "severity"])];
/// Labels that the titles add.
const TITLES: [&str; 2] = ["title_ja", "title_en"];
/// Labels that tell conditions and parts apart.
const MADE: [&str; 3] = ["part", "what", "store"];

/// What an expression touches.
#[derive(Default)]
struct Uses {
    /// Names with the matchers at them.
    series: Vec<(String, Matchers)>,
    /// Labels that it groups or joins by.
    labels: BTreeSet<String>,
    /// Names inside `rate` or `increase`.
    rated: BTreeSet<String>,
}

impl ExprVisitor for Uses {
    type Error = String;

    fn pre_visit(&mut self, expression: &Expr) -> Result<bool, String> {
        match expression {
            Expr::VectorSelector(one) => self.add(one.name.as_ref(), &one.matchers)?,
            Expr::MatrixSelector(one) => self.add(one.vs.name.as_ref(), &one.vs.matchers)?,
            Expr::Aggregate(AggregateExpr { modifier, .. }) => self.group(modifier.as_ref()),
            Expr::Binary(one) => {
                if let Some(modifier) = &one.modifier {
                    self.group(modifier.matching.as_ref());
                    if let parser::VectorMatchCardinality::ManyToOne(extra) = &modifier.card {
                        self.take(extra);
                    }
                }
            }
            Expr::Call(Call { func, args }) if ["rate", "increase"].contains(&func.name) => {
                if let Some(Expr::MatrixSelector(one)) = args.args.first().map(AsRef::as_ref) {
                    self.rated.extend(one.vs.name.clone());
                }
            }
            _ => {}
        }
        Ok(true)
    }
}

impl Uses {
    fn of(expression: &str) -> Self {
        let parsed = parser::parse(expression).unwrap_or_else(|error| panic!("{error}\n{expression}"));
        let mut uses = Uses::default();
        walk_expr(&mut uses, &parsed).unwrap_or_else(|error| panic!("{error}\n{expression}"));
        uses
    }

    fn add(&mut self, name: Option<&String>, matchers: &Matchers) -> Result<(), String> {
        let name = name.ok_or("a selector without a name")?;
        self.series.push((name.clone(), matchers.clone()));
        Ok(())
    }

    fn group(&mut self, modifier: Option<&LabelModifier>) {
        if let Some(LabelModifier::Include(labels) | LabelModifier::Exclude(labels)) = modifier {
            self.take(labels);
        }
    }

    fn take(&mut self, labels: &Labels) {
        self.labels.extend(labels.labels.iter().cloned());
    }
}

/// Everything that may be named, with its labels.
struct Known {
    series: BTreeMap<String, BTreeSet<String>>,
    exported: BTreeMap<String, Family>,
}

impl Known {
    fn new() -> Self {
        let owned = |labels: &[&str]| labels.iter().map(ToString::to_string).collect::<BTreeSet<_>>();
        let mut series: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        let mut exported = BTreeMap::new();
        for family in Family::ALL {
            series.insert(family.info().full_name(), owned(family.info().labels));
            exported.insert(family.info().full_name(), *family);
        }
        series.extend(BUILT_IN.map(|(name, labels)| (name.to_owned(), owned(labels))));
        for name in
            ["control:sekisho_control:title", "kind:sekisho_suspicion:title", "role:sekisho_role:title"]
        {
            series
                .insert(name.to_owned(), owned(&[&[name.split(':').next().unwrap()][..], &TITLES].concat()));
        }
        series.insert(
            "alertname:sekisho_alert:title".to_owned(),
            owned(&["alertname", "title_ja", "title_en"]),
        );
        for record in dashboard::rules::records(&Thresholds::SHIPPED) {
            let level = record.name.split(':').next().unwrap();
            let labels = if level == "instance" { owned(&[]) } else { owned(&[level]) };
            series.insert(record.name.to_owned(), labels);
        }
        Known { series, exported }
    }

    /// What is wrong with an expression.
    fn complaints(&self, expression: &str) -> Vec<String> {
        let uses = Uses::of(expression);
        let mut out = Vec::new();
        let mut labels: BTreeSet<String> =
            SCRAPE_LABELS.iter().chain(&MADE).map(ToString::to_string).collect();
        for (name, matchers) in &uses.series {
            let Some(own) = self.series.get(name) else {
                out.push(format!("{name} is neither exported nor recorded"));
                continue;
            };
            labels.extend(own.iter().cloned());
            for matcher in &matchers.matchers {
                if !own.contains(&matcher.name) && !SCRAPE_LABELS.contains(&matcher.name.as_str()) {
                    out.push(format!("{name} has no label {}", matcher.name));
                }
            }
            let is_job = |one: &promql_parser::label::Matcher| {
                one.name == "job" && one.op == MatchOp::Equal && one.value == JOB
            };
            if !name.ends_with(":title") && !matchers.matchers.iter().any(is_job) {
                out.push(format!("{name} is asked of every job"));
            }
            if let Some(family) = self.exported.get(name) {
                let is_counter = family.info().kind == Kind::Counter;
                if uses.rated.contains(name) && !is_counter {
                    out.push(format!("the rate of {name}, which is no counter"));
                }
            }
        }
        out.extend(
            uses.labels.difference(&labels).map(|label| format!("nothing in it has the label {label}")),
        );
        out
    }
}

/// Every expression with the place it stands in.
fn expressions() -> Vec<(String, String)> {
    let limits = Thresholds::SHIPPED;
    let mut all: Vec<(String, String)> = dashboard::queries()
        .unwrap()
        .into_iter()
        .map(|query| (format!("{}: {}", query.dashboard, query.panel), query.expression))
        .collect();
    all.extend(
        dashboard::rules::records(&limits).into_iter().map(|one| (one.name.to_owned(), one.expression)),
    );
    all.extend(dashboard::alerts::ALERTS.map(|alert| (alert.name.to_owned(), alert.condition(&limits))));
    all
}

#[test]
fn every_expression_parses_and_names_only_what_exists() {
    let known = Known::new();
    for (place, expression) in expressions() {
        assert_eq!(known.complaints(&expression), Vec::<String>::new(), "{place}\n{expression}");
    }
}

#[test]
fn planted_faults_are_caught() {
    let known = Known::new();
    for bad in [
        r#"sekisho_role_ups{job="sekisho"}"#,
        r#"sekisho_role_up{job="sekisho",zone="guest"}"#,
        r#"sekisho_role_up{role="core"}"#,
        r#"sum by (zone) (sekisho_role_up{job="sekisho"})"#,
        r#"rate(sekisho_devices{job="sekisho"}[5m])"#,
        r#"up{job="sekisho"} * on (door) sekisho_role_up{job="sekisho"}"#,
    ] {
        assert!(!known.complaints(bad).is_empty(), "{bad}");
    }
}

/// Recorded series count for what they are made of.
#[test]
fn every_metric_is_on_a_panel_or_an_alert() {
    let limits = Thresholds::SHIPPED;
    let recorded: BTreeMap<&str, String> =
        dashboard::rules::records(&limits).into_iter().map(|one| (one.name, one.expression)).collect();
    let mut open: Vec<String> =
        dashboard::queries().unwrap().into_iter().map(|query| query.expression).collect();
    open.extend(dashboard::alerts::ALERTS.map(|alert| alert.condition(&limits)));
    let mut seen = BTreeSet::new();
    while let Some(expression) = open.pop() {
        for (name, _) in Uses::of(&expression).series {
            if seen.insert(name.clone()) {
                open.extend(recorded.get(name.as_str()).cloned());
            }
        }
    }
    let missing: Vec<String> = Family::ALL
        .iter()
        .map(|family| family.info().full_name())
        .filter(|name| !seen.contains(name))
        .collect();
    assert_eq!(missing, Vec::<String>::new(), "put them on a panel");
    let unused: Vec<&&str> = recorded.keys().filter(|name| !seen.contains(**name)).collect();
    assert!(unused.is_empty(), "recorded for nothing: {unused:?}");
}
