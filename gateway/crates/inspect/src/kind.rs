//! The types of files, and the kinds that a policy's `accept` names.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A kind of file, as `accept` in a policy names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// PDF.
    Pdf,
    /// Text of every form: plain, tables, messages, mail, markup.
    Text,
    /// Office documents without macros.
    OfficeMacroFree,
    /// Pictures.
    Image,
    /// Plain text that is named as a log (`.log`).
    LogText,
    /// DICOM objects.
    Dicom,
}

impl Kind {
    /// Every kind there is.
    pub const ALL: [Self; 6] =
        [Self::Pdf, Self::Text, Self::OfficeMacroFree, Self::Image, Self::LogText, Self::Dicom];

    /// The word of it in a policy.
    pub fn word(self) -> &'static str {
        match self {
            Self::Pdf => "pdf",
            Self::Text => "text",
            Self::OfficeMacroFree => "office-macro-free",
            Self::Image => "image",
            Self::LogText => "log-text",
            Self::Dicom => "dicom",
        }
    }

    /// The kind of that word.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.word() == word)
    }
}

/// What a type is for the rest of the crate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    /// A policy can accept it.
    Of(Kind),
    /// Its contents decide.
    Container,
    /// Nobody may accept it.
    Never,
}

/// Declares the closed list of types: name in the code, word, class, usual endings of its name.
macro_rules! types {
    ($($(#[doc = $doc:literal])+ $name:ident = $word:literal, $class:expr, [$($ending:literal),*];)+) => {
        /// What a file is, by its content.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
        pub enum FileType {
            $($(#[doc = $doc])+ #[serde(rename = $word)] $name,)+
        }

        impl FileType {
            /// Every type there is.
            pub const ALL: &[Self] = &[$(Self::$name,)+];

            /// The word of it.
            pub fn word(self) -> &'static str {
                match self { $(Self::$name => $word,)+ }
            }

            /// The endings that names of such files have.
            pub fn endings(self) -> &'static [&'static str] {
                match self { $(Self::$name => &[$($ending),*],)+ }
            }

            fn class(self) -> Class {
                match self { $(Self::$name => $class,)+ }
            }
        }
    };
}

use Class::{Container, Never, Of};
use Kind::{Dicom, Image, OfficeMacroFree, Pdf, Text};

types! {
    /// PDF.
    Pdf = "pdf", Of(Pdf), ["pdf"];
    /// Word document (OOXML).
    Docx = "docx", Of(OfficeMacroFree), ["docx", "dotx", "docm", "dotm"];
    /// Excel workbook (OOXML).
    Xlsx = "xlsx", Of(OfficeMacroFree), ["xlsx", "xltx", "xlsm", "xltm"];
    /// Excel workbook (OOXML, binary parts).
    Xlsb = "xlsb", Of(OfficeMacroFree), ["xlsb"];
    /// PowerPoint presentation (OOXML).
    Pptx = "pptx", Of(OfficeMacroFree), ["pptx", "potx", "ppsx", "pptm", "potm", "ppsm"];
    /// Office document as one XML file.
    FlatOffice = "office-xml", Of(OfficeMacroFree), ["xml"];
    /// Word document (OLE2).
    Doc = "doc", Of(OfficeMacroFree), ["doc", "dot"];
    /// Excel workbook (OLE2).
    Xls = "xls", Of(OfficeMacroFree), ["xls", "xlt"];
    /// PowerPoint presentation (OLE2).
    Ppt = "ppt", Of(OfficeMacroFree), ["ppt", "pot", "pps"];
    /// Outlook message.
    Msg = "msg", Of(Text), ["msg", "oft"];
    /// OpenDocument.
    Odf = "odf", Of(OfficeMacroFree), ["odt", "ods", "odp", "odg", "ott", "ots", "otp"];
    /// Rich text.
    Rtf = "rtf", Of(OfficeMacroFree), ["rtf", "doc"];
    /// Plain text.
    Text = "text", Of(Text), [];
    /// A table as text.
    Csv = "csv", Of(Text), ["csv", "tsv", "txt"];
    /// XML.
    Xml = "xml", Of(Text), [];
    /// JSON.
    Json = "json", Of(Text), [];
    /// HL7 version 2 message.
    Hl7 = "hl7", Of(Text), [];
    /// Mail.
    Eml = "eml", Of(Text), ["eml", "txt", "mht", "mhtml"];
    /// HTML.
    Html = "html", Of(Text), ["html", "htm", "xhtml"];
    /// SVG.
    Svg = "svg", Of(Image), ["svg"];
    /// PNG.
    Png = "png", Of(Image), ["png"];
    /// JPEG.
    Jpeg = "jpeg", Of(Image), ["jpg", "jpeg", "jpe", "jfif"];
    /// GIF.
    Gif = "gif", Of(Image), ["gif"];
    /// BMP.
    Bmp = "bmp", Of(Image), ["bmp", "dib"];
    /// TIFF.
    Tiff = "tiff", Of(Image), ["tif", "tiff"];
    /// WebP.
    Webp = "webp", Of(Image), ["webp"];
    /// DICOM.
    Dicom = "dicom", Of(Dicom), ["dcm", "dic", "dicom"];
    /// ZIP archive.
    Zip = "zip", Container, ["zip"];
    /// tar archive.
    Tar = "tar", Container, ["tar"];
    /// gzip stream.
    Gzip = "gzip", Container, ["gz", "tgz"];
    /// Nothing at all.
    Empty = "empty", Of(Text), [];
    /// Program for Windows or DOS.
    Pe = "pe", Never, [];
    /// Program for Linux.
    Elf = "elf", Never, [];
    /// Program for macOS.
    MachO = "mach-o", Never, [];
    /// Bytecode: Java class, WebAssembly, DEX, Python, Lua, Flash.
    Bytecode = "bytecode", Never, [];
    /// Java archive or application package.
    Jar = "jar", Never, [];
    /// Program as text.
    Script = "script", Never, [];
    /// Shortcut.
    Shortcut = "shortcut", Never, [];
    /// Installer or package.
    Installer = "installer", Never, [];
    /// Image of a disk.
    DiskImage = "disk-image", Never, [];
    /// Archive of a kind that is not opened here.
    OtherArchive = "other-archive", Never, [];
    /// OneNote section.
    OneNote = "onenote", Never, [];
    /// Compiled help.
    Chm = "chm", Never, [];
    /// OLE2 file that is no document known here.
    OtherOle = "other-ole2", Never, [];
    /// Encrypted Office document.
    EncryptedOffice = "encrypted-office", Never, [];
    /// Old picture formats with code or escapes in them.
    Metafile = "metafile", Never, [];
    /// Nothing known.
    Unknown = "unknown", Never, [];
}

impl FileType {
    /// The kind that a policy has to accept for it.
    pub fn kind(self) -> Option<Kind> {
        match self.class() {
            Of(kind) => Some(kind),
            Container | Never => None,
        }
    }

    /// True for what is judged by its contents.
    pub fn is_container(self) -> bool {
        self.class() == Container
    }

    /// True for everything that is text to its reader.
    pub(crate) fn is_textual(self) -> bool {
        use FileType as T;
        matches!(self, T::Text | T::Csv | T::Xml | T::Json | T::Hl7 | T::Eml | T::Html | T::Svg | T::Empty)
    }
}

impl fmt::Display for FileType {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.word())
    }
}
