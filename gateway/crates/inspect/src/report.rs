//! What an inspection says.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{FileType, Kind};

/// What may happen with a file. The order is that of severity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// It may be delivered as it is.
    Allow,
    /// It must never be delivered unchanged.
    Disarm,
    /// It must never be delivered.
    Refuse,
}

/// What an inspection says about a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Report {
    /// Every type the file can be read as.
    pub types: Vec<FileType>,
    /// The kinds that a policy must accept for the file to pass, its contents included. Empty: no kind covers it.
    pub kinds: BTreeSet<Kind>,
    /// What may happen with it: the worst of the findings.
    pub verdict: Verdict,
    /// What was found, in the order in which it was.
    pub findings: Vec<Finding>,
}

impl Report {
    /// Says whether the file may be delivered unchanged to whoever accepts these kinds.
    pub fn may_be_delivered(&self, accepted: &BTreeSet<Kind>) -> bool {
        self.verdict == Verdict::Allow && !self.kinds.is_empty() && self.kinds.is_subset(accepted)
    }
}

/// One thing found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Finding {
    /// What it is.
    pub id: FindingId,
    /// Where inside the file: the parts' names, outermost first; empty for the file itself.
    #[serde(rename = "where")]
    pub at: String,
    /// What was seen there, for a person; never longer than a line.
    pub detail: String,
}

/// Declares the closed list of findings: name in the code, verdict, word, meaning.
macro_rules! findings {
    ($($(#[doc = $doc:literal])+ $name:ident: $verdict:ident = $word:literal,)+) => {
        /// What can be found. The words are labels of metrics and rows of reports: they never change their meaning.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
        pub enum FindingId {
            $($(#[doc = $doc])+ #[serde(rename = $word)] $name,)+
        }

        impl FindingId {
            /// Every finding there is.
            pub const ALL: &[Self] = &[$(Self::$name,)+];

            /// The word of it.
            pub fn word(self) -> &'static str {
                match self { $(Self::$name => $word,)+ }
            }

            /// What it means, in a sentence.
            pub fn meaning(self) -> &'static str {
                match self { $(Self::$name => concat!($($doc),+).trim_ascii(),)+ }
            }

            /// What it does to the file.
            pub fn verdict(self) -> Verdict {
                match self { $(Self::$name => Verdict::$verdict,)+ }
            }
        }
    };
}

findings! {
    /// The inspection crashed or reached a limit of its process.
    InspectionFailed: Refuse = "inspection-failed",
    /// Nothing known can read the bytes.
    UnknownType: Refuse = "unknown-type",
    /// The format is known and never accepted, or not understood here.
    UnsupportedType: Refuse = "unsupported-type",
    /// The file is larger than what is inspected.
    TooLarge: Refuse = "too-large",
    /// A program for a processor or a virtual machine.
    Executable: Refuse = "executable",
    /// A program as text, or a name that makes a system run it.
    Script: Refuse = "script",
    /// A shortcut, which starts something else.
    Shortcut: Refuse = "shortcut",
    /// An installer or a package.
    Installer: Refuse = "installer",
    /// An image of a disk.
    DiskImage: Refuse = "disk-image",
    /// The content cannot be read without a password.
    Encrypted: Refuse = "encrypted",
    /// Small bytes that become very many, or very deep.
    Bomb: Refuse = "bomb",
    /// The bytes can be read as more than one type.
    Polyglot: Refuse = "polyglot",
    /// Bytes after the end of the format, or before its beginning.
    ForeignBytes: Refuse = "foreign-bytes",
    /// The structure is broken, so other readers may see something else.
    Malformed: Refuse = "malformed",
    /// The name says another type than the content.
    NameMismatch: Refuse = "name-mismatch",
    /// The name is dangerous: it leaves its directory, hides its ending or names a device.
    UnsafeName: Refuse = "unsafe-name",
    /// Two entries of an archive share bytes.
    ArchiveOverlap: Refuse = "archive-overlap",
    /// The two headers of an archive's entry disagree.
    ArchiveMismatch: Refuse = "archive-mismatch",
    /// An archive holds bytes that belong to no entry.
    ArchiveGap: Refuse = "archive-gap",
    /// An archive has two entries of one name.
    ArchiveDuplicate: Refuse = "archive-duplicate",
    /// An archive's entry is a link or a device.
    ArchiveSpecial: Refuse = "archive-special",
    /// An archive's entry is packed in a way not understood here.
    ArchiveMethod: Refuse = "archive-method",
    /// XML with a document type of its own: entities, or files of others.
    XmlDoctype: Refuse = "xml-doctype",
    /// A VBA project.
    VbaMacro: Disarm = "vba-macro",
    /// An Excel 4 macro sheet.
    XlmMacro: Disarm = "xlm-macro",
    /// Dynamic data exchange.
    Dde: Disarm = "dde",
    /// An embedded or linked OLE object.
    OleObject: Disarm = "ole-object",
    /// A file embedded in a document.
    EmbeddedFile: Disarm = "embedded-file",
    /// An ActiveX control.
    Activex: Disarm = "activex",
    /// A form control that can start something.
    FormControl: Disarm = "form-control",
    /// A template that is fetched from elsewhere.
    ExternalTemplate: Disarm = "external-template",
    /// A part that is fetched from elsewhere.
    ExternalPart: Disarm = "external-part",
    /// A link to another workbook.
    ExternalWorkbook: Disarm = "external-workbook",
    /// A connection that brings data from elsewhere.
    DataConnection: Disarm = "data-connection",
    /// A chunk of another format that the reader merges in.
    AltChunk: Disarm = "alt-chunk",
    /// Additions to the reader's own menus.
    CustomUi: Disarm = "custom-ui",
    /// An add-in or a task pane that a document brings along.
    WebExtension: Disarm = "web-extension",
    /// A field whose instruction fetches or starts something.
    ActiveField: Disarm = "active-field",
    /// A mouse or document action that starts a program or a macro.
    ActionSetting: Disarm = "action-setting",
    /// A macro library or a script of an OpenDocument file.
    OdfMacro: Disarm = "odf-macro",
    /// An event of an OpenDocument file that starts something.
    OdfEvent: Disarm = "odf-event",
    /// JavaScript in a PDF.
    PdfJavascript: Disarm = "pdf-javascript",
    /// Actions that a PDF does by itself on events.
    PdfAdditionalActions: Disarm = "pdf-additional-actions",
    /// An action that a PDF does when it is opened.
    PdfOpenAction: Disarm = "pdf-open-action",
    /// A PDF that starts a program.
    PdfLaunch: Disarm = "pdf-launch",
    /// A PDF that opens another document.
    PdfGotoRemote: Disarm = "pdf-goto-remote",
    /// A PDF that sends a form, or fetches data for one.
    PdfForm: Disarm = "pdf-form-action",
    /// A file embedded in a PDF, or a portfolio.
    PdfEmbeddedFile: Disarm = "pdf-embedded-file",
    /// An XFA form in a PDF.
    PdfXfa: Disarm = "pdf-xfa",
    /// Flash, 3D, film or sound in a PDF.
    PdfRichMedia: Disarm = "pdf-rich-media",
    /// A part of a PDF that is fetched from elsewhere.
    PdfExternal: Disarm = "pdf-external",
    /// Something active in a revision that the PDF no longer shows.
    PdfHidden: Disarm = "pdf-hidden",
    /// A script in HTML, SVG or XML.
    MarkupScript: Disarm = "markup-script",
    /// An event handler in HTML or SVG.
    MarkupEvent: Disarm = "markup-event",
    /// HTML or SVG that embeds or fetches something by itself.
    MarkupEmbed: Disarm = "markup-embed",
    /// A program that transforms XML on opening.
    MarkupStylesheet: Disarm = "markup-stylesheet",
    /// An object of an RTF document.
    RtfObject: Disarm = "rtf-object",
    /// A table cell that a spreadsheet would compute.
    CsvFormula: Disarm = "csv-formula",
    /// A DICOM preamble that is not zero.
    DicomPreamble: Disarm = "dicom-preamble",
    /// A document inside a DICOM object.
    DicomDocument: Disarm = "dicom-document",
    /// A program, script or document in a DICOM element.
    DicomPayload: Disarm = "dicom-payload",
    /// A script in an image's comments.
    ImageScript: Disarm = "image-script",
    /// A picture format that a reader hands to old code (WMF, EMF escapes).
    LegacyPicture: Disarm = "legacy-picture",
}

impl fmt::Display for FindingId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.word())
    }
}
