//! The catalogue as data: complete, both languages, and honest about what was read.

use policy::guideline::Words;
use policy::guideline::catalogue::{Catalogue, CatalogueError, Coverage, Edition, Kind, Stage, Version};

const CONTROLS: &str = include_str!("../../src/guideline/controls.toml");
const MEASURES: &str = include_str!("../../src/guideline/measures.toml");

fn catalogue() -> Catalogue {
    Catalogue::shipped().unwrap()
}

#[test]
fn every_entry_is_there_in_both_languages() {
    let catalogue = catalogue();
    assert_eq!(catalogue.controls().len(), 67);
    for control in catalogue.controls() {
        for Words { ja, en } in
            [&control.title, &control.requirement, &control.measured_by, &control.next_step]
        {
            assert!(
                !en.is_empty() && !en.chars().any(|letter| ('ぁ'..='ん').contains(&letter)),
                "{}: {en}",
                control.id
            );
            assert!(ja == "BYOD" || !ja.is_ascii(), "{}: {ja}", control.id);
        }
        // Where nothing was measured the words say so, and a sentence ends.
        assert!(
            control.measured_by.ja.ends_with('。') && control.next_step.ja.ends_with('。'),
            "{}",
            control.id
        );
        assert!(
            control.measured_by.en.ends_with('.') && control.next_step.en.ends_with('.'),
            "{}",
            control.id
        );
        assert_eq!(
            control.kind == Kind::Organizational,
            control.coverage == Coverage::Organizational,
            "{}",
            control.id
        );
        assert_eq!(catalogue.control(&control.id).map(|found| &found.id), Some(&control.id));
    }
}

#[test]
fn what_was_not_read_is_not_called_verified() {
    for control in catalogue().controls() {
        for clause in &control.clauses {
            if clause.stage == Stage::Memory {
                assert!(!clause.verified, "{}", control.id);
            }
            if clause.edition == Edition::V7_0 {
                assert!(!clause.verified && clause.stage == Stage::Secondary, "{}", control.id);
            }
        }
    }
}

#[test]
fn nothing_claims_to_meet_the_guideline() {
    for word in ["準拠", "ompliant", "COMPLIANT"] {
        assert!(!CONTROLS.contains(word) && !MEASURES.contains(word), "{word}");
    }
}

#[test]
fn the_crosswalk_holds_every_clause_once() {
    let catalogue = catalogue();
    for crossing in catalogue.crosswalk() {
        let across: usize = crossing.clauses.values().map(Vec::len).sum();
        assert_eq!(across + crossing.beside.len(), crossing.control.clauses.len(), "{}", crossing.control.id);
        assert_eq!(crossing.clauses.len(), Version::ALL.len());
    }
    let time = |version| {
        let asked = catalogue.clauses(version);
        asked.iter().find(|(control, _)| control.id.as_str() == "time-sync").map(|(_, clauses)| clauses.len())
    };
    assert_eq!((time(Version::V6_0), time(Version::V5_2)), (Some(1), None));
    for version in Version::ALL {
        let asked = catalogue.clauses(version);
        assert!(!asked.is_empty());
        assert!(asked.iter().all(|(_, clauses)| clauses.iter().all(|clause| version.covers(clause.edition))));
        assert_eq!(version.to_string().parse::<Version>().as_ref(), Ok(&version));
    }
    assert!("7.0".parse::<Version>().unwrap_err().to_string().contains("`5.2`, `6.0` or `7.0-draft`"));
}

#[test]
fn a_damaged_catalogue_is_refused() {
    let refused = |controls: &str, measures: &str| Catalogue::parse(controls, measures).unwrap_err();
    assert!(matches!(refused("x", MEASURES), CatalogueError::Layout(_)));
    let unknown = CONTROLS.replacen("[[control]]\n", "[[control]]\ncolour = \"green\"\n", 1);
    assert!(matches!(refused(&unknown, MEASURES), CatalogueError::Layout(_)));
    let fewer = CONTROLS.replacen("controls = 67", "controls = 66", 1);
    assert!(matches!(refused(&fewer, MEASURES), CatalogueError::Count { stated: 66, held: 67 }));
    let newer = CONTROLS.replacen("schema = 1", "schema = 2", 1);
    assert!(matches!(refused(&newer, MEASURES), CatalogueError::Schema(2)));
    let twice = CONTROLS.replacen("id = \"least-communication\"", "id = \"net-separation\"", 1);
    assert!(matches!(refused(&twice, MEASURES), CatalogueError::Half(_) | CatalogueError::Twice(_)));
    let alone = MEASURES.replacen("control = \"byod\"", "control = \"nothing\"", 1);
    assert!(matches!(refused(CONTROLS, &alone), CatalogueError::Half(_)));
    let shouting = CONTROLS.replacen("id = \"byod\"", "id = \"BYOD\"", 1);
    assert!(matches!(refused(&shouting, MEASURES), CatalogueError::Layout(_)));
    let one_language = CONTROLS.replacen("language = [\"ja\", \"en\"]", "language = [\"ja\"]", 1);
    assert!(matches!(refused(&one_language, MEASURES), CatalogueError::Languages));
}
