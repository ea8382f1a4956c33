//! A panel: what it asks, how it is shown, and its place.

use policy::diagnostic::Language;
use policy::guideline::{State, Words};
use serde_json::{Map, Value, json};

use super::units::{Unit, colour};
use super::{COLUMNS, guides};
use crate::runbooks::worded;
use crate::vocabulary::{self, Word};
use crate::words::Said;

/// A panel.
#[derive(Clone, Debug)]
pub(crate) struct Panel {
    pub(crate) title: Words,
    pub(crate) description: Words,
    /// Width and height in Grafana's grid.
    pub(crate) size: (u32, u32),
    pub(crate) show: Show,
    /// The page that says what to do.
    pub(crate) guide: Option<&'static str>,
}

/// How a panel shows what it asks.
#[derive(Clone, Debug)]
pub(crate) enum Show {
    /// A heading over those that follow.
    Row,
    /// Words only.
    Text(Words),
    /// Large values.
    Stat(Unit, Vec<Target>),
    /// Over time.
    Series(Unit, Vec<Target>),
    /// Bars of one instant.
    Bars(Unit, Vec<Target>),
    /// A table of one instant.
    Table(Vec<Target>, Vec<Column>),
}

/// A question to Prometheus.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) expression: String,
    pub(crate) legend: Legend,
}

/// What a series is called.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Legend {
    /// A name.
    Said(Said),
    /// The value of a label, in words where its values are closed.
    Label(&'static str),
    /// The value of a label, in these words.
    Words(&'static str, &'static [Word]),
    /// A pattern of labels.
    Pattern(&'static str),
}

/// A column of a table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Column {
    /// Name of the label, or the letter of the target whose value it is.
    pub(crate) source: Source,
    pub(crate) title: Said,
}

/// What a column holds.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Source {
    /// A label.
    Label(&'static str),
    /// A label, in these words.
    Words(&'static str, &'static [Word]),
    /// The value of the target with this number.
    Value(usize, Unit),
}

impl Target {
    pub(crate) fn new(legend: Legend, expression: impl Into<String>) -> Self {
        Target { expression: expression.into(), legend }
    }
}

impl Panel {
    pub(crate) fn new(title: Said, description: Said, size: (u32, u32), show: Show) -> Self {
        Panel { title: title.into(), description: description.into(), size, show, guide: None }
    }

    pub(crate) fn row(title: impl Into<Words>) -> Self {
        Panel {
            title: title.into(),
            description: Words::new("", ""),
            size: (COLUMNS, 1),
            show: Show::Row,
            guide: None,
        }
    }

    pub(crate) fn guided(self, slug: &'static str) -> Self {
        Panel { guide: Some(slug), ..self }
    }

    /// Every question it asks.
    pub(crate) fn expressions(&self) -> impl Iterator<Item = &str> {
        self.targets().iter().map(|target| target.expression.as_str())
    }

    fn targets(&self) -> &[Target] {
        match &self.show {
            Show::Row | Show::Text(_) => &[],
            Show::Stat(_, targets)
            | Show::Series(_, targets)
            | Show::Bars(_, targets)
            | Show::Table(targets, _) => targets,
        }
    }

    fn kind(&self) -> &'static str {
        match self.show {
            Show::Row => "row",
            Show::Text(_) => "text",
            Show::Stat(..) => "stat",
            Show::Series(..) => "timeseries",
            Show::Bars(..) => "bargauge",
            Show::Table(..) => "table",
        }
    }

    fn json(&self, id: usize, (x, y): (u32, u32), language: Language) -> Value {
        let (width, height) = self.size;
        let mut out = Map::new();
        let mut put = |key: &str, value: Value| drop(out.insert(key.to_owned(), value));
        put("id", json!(id));
        put("type", json!(self.kind()));
        put("title", json!(self.title.text(language)));
        put("gridPos", json!({ "x": x, "y": y, "w": width, "h": height }));
        if matches!(self.show, Show::Row) {
            put("collapsed", json!(false));
            put("panels", json!([]));
            return Value::Object(out);
        }
        put("description", json!(self.description.text(language)));
        if let Some(link) = self.guide.and_then(|slug| guides::link(slug, language)) {
            put("links", json!([link]));
        }
        put("options", options(&self.show, language));
        if let Show::Text(_) = self.show {
            return Value::Object(out);
        }
        put("datasource", source());
        put("fieldConfig", field_config(&self.show, language));
        put(
            "targets",
            self.targets().iter().enumerate().map(|target| self.target(target, language)).collect(),
        );
        if let Show::Table(targets, columns) = &self.show {
            put("transformations", transformations(targets, columns, language));
        }
        Value::Object(out)
    }

    fn target(&self, (number, target): (usize, &Target), language: Language) -> Value {
        let is_instant = !matches!(self.show, Show::Series(..));
        let legend = match target.legend {
            Legend::Said(said) => said.text(language).to_owned(),
            Legend::Label(label) | Legend::Words(label, _) => format!("{{{{{label}}}}}"),
            Legend::Pattern(pattern) => pattern.to_owned(),
        };
        json!({
            "refId": letter(number),
            "datasource": source(),
            "expr": target.expression,
            "legendFormat": legend,
            "instant": is_instant,
            "range": !is_instant,
            "format": if matches!(self.show, Show::Table(..)) { "table" } else { "time_series" },
        })
    }
}

/// The panels side by side, in lines from the top.
pub(crate) fn placed(panels: &[Panel], language: Language) -> Vec<Value> {
    let (mut x, mut y, mut line) = (0, 0, 0);
    let mut out = Vec::with_capacity(panels.len());
    for (id, panel) in (1..).zip(panels) {
        let (width, height) = panel.size;
        if x + width > COLUMNS {
            (x, y, line) = (0, y + line, 0);
        }
        out.push(panel.json(id, (x, y), language));
        (x, line) = (x + width, line.max(height));
    }
    out
}

/// The data source that the reader chose.
pub(crate) fn source() -> Value {
    json!({ "type": "prometheus", "uid": "${datasource}" })
}

/// Grafana's letter of a target.
fn letter(number: usize) -> String {
    u8::try_from(number)
        .ok()
        .and_then(|number| b'A'.checked_add(number))
        .map_or_else(String::new, |letter| char::from(letter).to_string())
}

fn options(show: &Show, language: Language) -> Value {
    let reduce = json!({ "calcs": ["lastNotNull"], "fields": "", "values": false });
    match show {
        Show::Row => json!({}),
        Show::Text(words) => json!({ "mode": "markdown", "content": words.text(language) }),
        Show::Stat(unit, _) => json!({
            "colorMode": if unit.is_state() { "background" } else { "value" },
            "graphMode": "none",
            "justifyMode": "center",
            "orientation": "auto",
            "percentChangeColorMode": "standard",
            "reduceOptions": reduce,
            "showPercentChange": false,
            "textMode": "auto",
            "wideLayout": true,
        }),
        Show::Series(..) => json!({
            "legend": { "calcs": [], "displayMode": "list", "placement": "bottom", "showLegend": true },
            "tooltip": { "mode": "multi", "sort": "desc" },
        }),
        Show::Bars(..) => json!({
            "displayMode": "basic",
            "legend": { "calcs": [], "displayMode": "list", "placement": "bottom", "showLegend": false },
            "maxVizHeight": 300,
            "minVizHeight": 16,
            "minVizWidth": 8,
            "namePlacement": "left",
            "orientation": "horizontal",
            "reduceOptions": reduce,
            "showUnfilled": true,
            "sizing": "auto",
            "valueMode": "color",
        }),
        Show::Table(..) => json!({ "cellHeight": "sm", "frameIndex": 0, "showHeader": true }),
    }
}

fn field_config(show: &Show, language: Language) -> Value {
    let (defaults, overrides) = match show {
        Show::Row | Show::Text(_) => (json!({}), Vec::new()),
        Show::Stat(unit, targets) | Show::Bars(unit, targets) => (
            defaults(*unit, json!({ "mode": "thresholds" }), json!({}), language),
            renamed(targets, language),
        ),
        Show::Series(unit, targets) => {
            let custom = json!({ "drawStyle": "line", "fillOpacity": 10, "lineWidth": 1, "showPoints": "never", "spanNulls": false });
            (
                defaults(*unit, json!({ "mode": "palette-classic" }), custom, language),
                renamed(targets, language),
            )
        }
        Show::Table(_, columns) => {
            let custom = json!({ "align": "auto", "cellOptions": { "type": "auto" }, "inspect": false });
            let fixed = json!({ "mode": "thresholds" });
            let mut defaults = defaults(Unit::State, fixed, custom, language);
            // The columns say what their values mean.
            defaults.as_object_mut().map(|defaults| defaults.remove("mappings"));
            (defaults, columns.iter().map(|column| column.overrides(language)).collect())
        }
    };
    json!({ "defaults": defaults, "overrides": overrides })
}

fn defaults(unit: Unit, colours: Value, custom: Value, language: Language) -> Value {
    let mut out = json!({
        "color": colours,
        "custom": custom,
        "mappings": unit.mappings(language),
        // Silence is never good.
        "noValue": worded(State::Unknown, language),
        "thresholds": { "mode": "absolute", "steps": [{ "color": colour(State::NotApplicable), "value": null }] },
    });
    if let (Some(id), Some(out)) = (unit.id(language), out.as_object_mut()) {
        out.insert("unit".to_owned(), json!(id));
    }
    out
}

/// Overrides that put words in place of a label's closed values.
fn renamed(targets: &[Target], language: Language) -> Vec<Value> {
    let words = targets.iter().filter_map(|target| match target.legend {
        Legend::Label(label) => vocabulary::of_label(label),
        Legend::Words(_, words) => Some(words),
        Legend::Said(_) | Legend::Pattern(_) => None,
    });
    let named = words.flat_map(|words| vocabulary::named(words, language));
    let renamed = named.map(|(value, word)| {
        json!({
            "matcher": { "id": "byName", "options": value },
            "properties": [{ "id": "displayName", "value": word }],
        })
    });
    renamed.collect()
}

impl Column {
    fn overrides(&self, language: Language) -> Value {
        let properties = match self.source {
            Source::Label(label) => worded_cells(vocabulary::of_label(label).unwrap_or_default(), language),
            Source::Words(_, words) => worded_cells(words, language),
            Source::Value(_, unit) => {
                let mut properties = vec![json!({ "id": "mappings", "value": unit.mappings(language) })];
                properties.extend(unit.id(language).map(|id| json!({ "id": "unit", "value": id })));
                if unit.is_state() {
                    let cell = json!({ "type": "color-background", "mode": "basic" });
                    properties.push(json!({ "id": "custom.cellOptions", "value": cell }));
                }
                properties
            }
        };
        let matcher = json!({ "id": "byName", "options": self.title.text(language) });
        json!({ "matcher": matcher, "properties": properties })
    }

    fn field(&self, targets: &[Target]) -> String {
        match self.source {
            Source::Label(label) | Source::Words(label, _) => label.to_owned(),
            Source::Value(..) if targets.len() == 1 => "Value".to_owned(),
            Source::Value(number, _) => format!("Value #{}", letter(number)),
        }
    }
}

/// Words in place of a label's closed values.
fn worded_cells(words: &[Word], language: Language) -> Vec<Value> {
    let cell = |(index, (value, word)): (usize, (&str, &str))| {
        (value.to_owned(), json!({ "text": word, "index": index }))
    };
    let options: Map<String, Value> =
        vocabulary::named(words, language).into_iter().enumerate().map(cell).collect();
    vec![json!({ "id": "mappings", "value": [{ "type": "value", "options": options }] })]
}

fn transformations(targets: &[Target], columns: &[Column], language: Language) -> Value {
    let mut out = Vec::new();
    if targets.len() > 1 {
        out.push(json!({ "id": "merge", "options": {} }));
    }
    let renames: Map<String, Value> =
        columns.iter().map(|column| (column.field(targets), json!(column.title.text(language)))).collect();
    let order: Map<String, Value> =
        columns.iter().enumerate().map(|(index, column)| (column.field(targets), json!(index))).collect();
    let has_values = columns.iter().any(|column| matches!(column.source, Source::Value(..)));
    let excluded = if has_values { json!({ "Time": true }) } else { json!({ "Time": true, "Value": true }) };
    out.push(json!({
        "id": "organize",
        "options": { "excludeByName": excluded, "indexByName": order, "renameByName": renames },
    }));
    Value::Array(out)
}
