//! Files that cross: what the gateway itself stops, and the sender's word.

use jiff::SignedDuration;

use super::Case;
use super::care::warn_listed;
use crate::guideline::measures::INSPECTION_TRIED_MAX_M;
use crate::guideline::observation::FileDoor;

pub(super) fn file_sanitization(case: &mut Case<'_>) {
    let Some(door) = tried(case) else { return };
    case.note(
        format!("ファイルを送れる事業者は {} 社です", door.vendors),
        format!("{} vendors may send files", door.vendors),
    );
}

pub(super) fn rm_sanitization(case: &mut Case<'_>) {
    let Some(door) = tried(case) else { return };
    warn_listed(
        case,
        &door.unattested,
        "送信側の無害化証明なしでファイルを受け取る事業者があります",
        "files of vendors are taken without the sender's word that they were sanitized",
    );
    case.note(
        format!("無害化証明なしで受け取る事業者は {} 社です", door.unattested.count),
        format!("{} vendors need no attestation", door.unattested.count),
    );
}

/// The door, when there is one, after saying how inspection was found when it was last tried.
fn tried<'a>(case: &mut Case<'a>) -> Option<&'a FileDoor> {
    let door = case.fresh::<FileDoor>()?;
    let FileDoor { vendors, unattested: _, tried_at, stops_macro, passes_harmless } = door;
    if *vendors == 0 {
        case.not_applicable("ファイルを送れる事業者はありません", "no vendor may send files");
        return None;
    }
    match tried_at {
        None => {
            case.unknown("ファイルの検査をまだ試していません", "inspection has not been tried yet");
            return Some(door);
        }
        Some(at) if case.age(*at) > SignedDuration::from_mins(INSPECTION_TRIED_MAX_M) => {
            let day = case.instant(*at);
            case.unknown(
                format!("ファイルの検査は {day} から試せていません"),
                format!("inspection was last tried at {day}"),
            );
            return Some(door);
        }
        Some(_) => {}
    }
    if !stops_macro {
        case.fail(
            "試験用のマクロ入りファイルが検査で止まりませんでした",
            "the test file with a macro was not stopped by inspection",
        );
    }
    if *passes_harmless {
        case.note(
            "検査は試験用のマクロ入りファイルを止めています",
            "inspection stops the test file with a macro",
        );
    } else {
        case.warn(
            "検査が試験用の無害なファイルを通しません(ファイルは届きません)",
            "inspection does not let the harmless test file pass: no file is delivered",
        );
    }
    Some(door)
}
