//! The report: well-formed, complete in both languages, escaped, and without a claim it cannot make.

use std::cell::RefCell;

use html5ever::tendril::StrTendril;
use html5ever::tokenizer::{
    BufferQueue, Tag, TagKind, Token, TokenSink, TokenSinkResult, Tokenizer, TokenizerOpts,
};
use policy::diagnostic::Language;
use policy::guideline::report::{Checkpoint, Period, ReportInput, html};
use policy::guideline::{Catalogue, State, Timeline, Version};

use crate::healthy::*;

const VOID: [&str; 2] = ["meta", "br"];

/// What a browser's tokenizer found.
#[derive(Default)]
struct Reading {
    open: RefCell<Vec<String>>,
    faults: RefCell<Vec<String>>,
    tags: RefCell<Vec<Tag>>,
    text: RefCell<String>,
}

impl TokenSink for Reading {
    type Handle = ();

    fn process_token(&self, token: Token, line: u64) -> TokenSinkResult<()> {
        match token {
            Token::TagToken(tag) => {
                let name = tag.name.to_string();
                match tag.kind {
                    TagKind::StartTag if VOID.contains(&name.as_str()) => {}
                    TagKind::StartTag => self.open.borrow_mut().push(name),
                    TagKind::EndTag => {
                        let opened = self.open.borrow_mut().pop();
                        if opened.as_deref() != Some(&name) {
                            self.faults
                                .borrow_mut()
                                .push(format!("line {line}: {opened:?} closed by {name}"));
                        }
                    }
                }
                self.tags.borrow_mut().push(tag);
            }
            Token::CharacterTokens(text) => {
                if self.open.borrow().last().is_none_or(|name| name != "style") {
                    self.text.borrow_mut().push_str(&text);
                }
            }
            Token::ParseError(error) => self.faults.borrow_mut().push(format!("line {line}: {error}")),
            Token::DoctypeToken(_) | Token::CommentToken(_) | Token::NullCharacterToken | Token::EOFToken => {
            }
        }
        TokenSinkResult::Continue
    }
}

fn read(page: &str) -> Reading {
    let queue = BufferQueue::default();
    queue.push_back(StrTendril::from(page));
    let tokenizer =
        Tokenizer::new(Reading::default(), TokenizerOpts { exact_errors: true, ..TokenizerOpts::default() });
    let _ = tokenizer.feed(&queue);
    tokenizer.end();
    tokenizer.sink
}

fn reported(text: &str, language: Language, version: Version) -> String {
    let catalogue = Catalogue::shipped().unwrap();
    let policy = policy(text);
    let assessments = assessed(&observed(facts(&policy)));
    let mut timeline = Timeline::default();
    for (index, change) in (100..).zip(timeline.handle_assessments(&assessments, ago(DAY))) {
        timeline.handle_recorded(&change, index);
    }
    let checkpoint = Checkpoint {
        origin: "sakura-01/audit".into(),
        tree_size: 12_345,
        root_hash: "5Zc1bB0rYzqH3vJ8Y1b8m0uXoTq2wqv3x1m2n3o4p5Q=".into(),
        signed_at: ago(60),
    };
    html(
        &ReportInput {
            catalogue: &catalogue,
            policy: &policy,
            policy_id: POLICY_ID,
            assessments: &assessments,
            timeline: &timeline,
            version,
            period: Period { from: ago(30 * DAY), to: now() },
            made_at: now(),
            checkpoint: Some(&checkpoint),
            product: "0.1.0",
        },
        language,
    )
}

#[test]
fn both_languages_are_well_formed_and_complete() {
    for language in [Language::Ja, Language::En] {
        for version in Version::ALL {
            let page = reported(CLINIC, language, version);
            let reading = read(&page);
            assert!(reading.faults.borrow().is_empty(), "{:?}", reading.faults.borrow());
            assert!(reading.open.borrow().is_empty(), "left open: {:?}", reading.open.borrow());
            let text = reading.text.borrow();
            for control in Catalogue::shipped().unwrap().controls() {
                assert!(text.contains(control.title.text(language)), "{} is missing", control.id);
            }
            for said in [
                "さくら内科クリニック",
                "3f2a",
                "12345",
                "5Zc1bB0rYzqH3vJ8Y1b8m0uXoTq2wqv3x1m2n3o4p5Q=",
                "staff-ehr",
                "#100",
            ] {
                assert!(text.contains(said), "{said} is missing");
            }
            for state in State::ALL {
                assert!(text.contains(&format!("{} {}", state.symbol(), state.word(language))), "{state:?}");
            }
        }
    }
}

/// In the English page only what the clinic or a clause wrote is Japanese; no sentence of ours is.
#[test]
fn each_language_speaks_for_itself() {
    let page = reported(CLINIC, Language::En, Version::V6_0);
    for ours in ["要対応", "測り方", "次にすること", "遮断", "まとめ", "記載なし", "いつでも", "関所"]
    {
        assert!(!read(&page).text.borrow().contains(ours), "{ours}");
    }
    let page = reported(CLINIC, Language::Ja, Version::V6_0);
    for ours in ["not measured", "denied", "Summary", "Next:", "always", "gateway ", "told by others"] {
        assert!(!read(&page).text.borrow().contains(ours), "{ours}");
    }
}

#[test]
fn nothing_is_fetched_run_or_claimed() {
    for language in [Language::Ja, Language::En] {
        let page = reported(CLINIC, language, Version::V6_0);
        for word in ["準拠", "compliant", "Compliant", "<script", "javascript:", "@import", "url("] {
            assert!(!page.contains(word), "{word}");
        }
        let reading = read(&page);
        for tag in reading.tags.borrow().iter() {
            for attribute in &tag.attrs {
                let name = attribute.name.local.to_string();
                assert!(!matches!(name.as_str(), "src" | "srcset" | "style" | "action"), "{name}");
                assert!(!name.starts_with("on"), "{name}");
                assert!(name != "href" || attribute.value.starts_with("#flow-"), "{}", attribute.value);
            }
        }
        let lang = reading
            .tags
            .borrow()
            .iter()
            .find(|tag| &*tag.name == "html")
            .map(|tag| tag.attrs[0].value.to_string());
        assert_eq!(lang.as_deref(), Some(language.pick("en", "ja")));
    }
}

#[test]
fn hostile_names_stay_text() {
    let hostile = "<script>alert(1)</script><b onmouseover='x'>&\\\"";
    let text = CLINIC
        .replacen("purpose = \"CT画像の保存\"", &format!("purpose = \"{hostile}\""), 1)
        .replacen("owner = \"放射線科\"", &format!("owner = \"{hostile}\""), 1)
        .replacen(
            "responsibility = \"サーバの更新は acme-emr が行う\"",
            &format!("responsibility = \"{hostile}\""),
            1,
        );
    let page = reported(&text, Language::Ja, Version::V6_0);
    let reading = read(&page);
    assert!(reading.faults.borrow().is_empty(), "{:?}", reading.faults.borrow());
    let named = |name: &str| reading.tags.borrow().iter().any(|tag| &*tag.name == name);
    assert!(!named("script") && !named("b"));
    assert!(reading.text.borrow().contains("<script>alert(1)</script><b onmouseover='x'>&\""));
}

#[test]
fn the_matrix_says_who_may_start() {
    let page = reported(CLINIC, Language::En, Version::V6_0);
    let text = read(&page).text.borrow().clone();
    assert!(text.contains("denied") && text.contains("Mon-Fri 19:00-22:00"));
    let flows = policy(CLINIC).flows.len();
    for number in 1..=flows {
        assert!(page.contains(&format!("id=\"flow-{number}\"")), "flow {number} is not listed");
        assert!(page.contains(&format!("href=\"#flow-{number}\"")), "flow {number} is in no pair");
    }
}
