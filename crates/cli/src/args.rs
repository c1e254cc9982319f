//! What can be typed.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

const EXIT_CODES: &str = "\
Exit codes:
  0   ok
  1   failure of ours
  2   usage: a wrong argument or run file
  3   bad data
  4   a value that is not finite
  5   checkpoint or file could not be read or written
  75  interrupted and saved: the same command with --resume goes on

Environment:
  NEARFAR_DATASETS    folder of the fetched data sets, where --data is not given (default: data)
  RAYON_NUM_THREADS   number of threads (default: all cores); results do not depend on it
  NO_COLOR            no colors";

/// Deep metric learning: from files to a trained embedding, a report and search.
#[derive(Debug, Parser)]
#[command(name = "nearfar", version, after_help = EXIT_CODES, disable_help_subcommand = true, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Options of every command.
#[derive(Clone, Debug, Args)]
pub(crate) struct Global {
    /// One JSON object a line on stdout, for machines.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Only results and errors.
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub(crate) quiet: bool,
    /// More of what happens.
    #[arg(short, long, global = true)]
    pub(crate) verbose: bool,
    /// Where to compute: cpu, cuda, cuda:N or metal.
    #[arg(long, global = true, value_name = "DEVICE", default_value = "cpu")]
    pub(crate) device: String,
    /// Folder of the fetched data sets.
    #[arg(
        long,
        global = true,
        value_name = "DIR",
        env = "NEARFAR_DATASETS",
        default_value = "data",
        hide_env_values = true
    )]
    pub(crate) data: PathBuf,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Train on handwritten digits that are in the program: a first result in about a minute.
    Demo(Demo),
    /// Train as a run file says.
    Train(Train),
    /// Score a trained run on its held-out data.
    Eval(Eval),
    /// Embed files with a trained run.
    Embed(Embed),
    /// Find the nearest of an embedded gallery.
    Search(Search),
    /// Write the report of a run again.
    Report(Report),
    /// Write a trained model for Python: a folder of sentence-transformers, or safetensors for PyTorch.
    Export(Export),
    /// Look after data.
    #[command(subcommand)]
    Data(Data),
    /// Write, check or show a run file.
    #[command(subcommand)]
    Config(Config),
    /// Show what this machine offers and what is missing.
    Doctor,
    /// Print completions for a shell.
    Completions {
        /// Which shell.
        shell: clap_complete::Shell,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Demo {
    /// Folder of the run; an earlier demo there is replaced.
    #[arg(long, value_name = "DIR", default_value = "runs/demo")]
    pub(crate) out: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct Train {
    /// The run file.
    #[arg(value_name = "RUN.toml")]
    pub(crate) run: PathBuf,
    /// Change a setting of the run file: --set loss.triplet_margin.margin=0.3
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub(crate) set: Vec<String>,
    /// Folder of the run (default: runs/ and the name of the run file).
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
    /// Go on from the newest checkpoint in the folder, if there is one.
    #[arg(long)]
    pub(crate) resume: bool,
    /// Train although some parameters get no gradient.
    #[arg(long)]
    pub(crate) allow_frozen: bool,
    /// Save and end after this step, as if interrupted; --resume goes on.
    #[arg(long, value_name = "STEP")]
    pub(crate) stop_after: Option<u64>,
    /// Train with this many seeds, one after the other from the run file's on, and give means and 95 % intervals.
    #[arg(
        long,
        value_name = "COUNT",
        default_value_t = 1,
        conflicts_with = "stop_after"
    )]
    pub(crate) seeds: u64,
}

/// Which checkpoint of which run.
#[derive(Clone, Debug, Args)]
pub(crate) struct RunChoice {
    /// Folder of the run.
    #[arg(long, value_name = "DIR")]
    pub(crate) run: PathBuf,
    /// best, last, or the name of a checkpoint.
    #[arg(long, value_name = "NAME", default_value = "best")]
    pub(crate) checkpoint: String,
}

#[derive(Debug, Args)]
pub(crate) struct Eval {
    /// Folder of the run.
    #[arg(value_name = "RUN_DIR")]
    pub(crate) run: PathBuf,
    /// best, last, or the name of a checkpoint.
    #[arg(long, value_name = "NAME", default_value = "best")]
    pub(crate) checkpoint: String,
    /// Part of the data (default: every part that is not trained on).
    #[arg(long, value_name = "NAME")]
    pub(crate) split: Vec<String>,
    /// Scores, by name (default: those of the run file).
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub(crate) scores: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Embed {
    /// A folder of images, an image, a CSV, TSV or JSON lines file; or a part of the run's data, such as `test`.
    #[arg(value_name = "IN")]
    pub(crate) input: String,
    #[command(flatten)]
    pub(crate) run: RunChoice,
    /// Of a run with several `[[towers]]`, which of them reads new files; the first is 0.
    #[arg(long, value_name = "I")]
    pub(crate) tower: Option<usize>,
    /// Where to write: .safetensors, .npy or .csv.
    #[arg(short, long, value_name = "OUT")]
    pub(crate) output: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct Search {
    /// Queries: as IN of `embed`, or a text in quotes for a text model; or embeddings (.safetensors, .npy, .csv).
    #[arg(value_name = "QUERY")]
    pub(crate) query: String,
    /// Embeddings to search in, as `embed` writes them.
    #[arg(long, value_name = "FILE")]
    pub(crate) gallery: PathBuf,
    /// Folder of the run that embeds the queries; not needed for embeddings.
    #[arg(long, value_name = "DIR")]
    pub(crate) run: Option<PathBuf>,
    /// best, last, or the name of a checkpoint.
    #[arg(long, value_name = "NAME", default_value = "best")]
    pub(crate) checkpoint: String,
    /// Of a run with several `[[towers]]`, which of them reads the queries; the first is 0.
    #[arg(long, value_name = "I")]
    pub(crate) tower: Option<usize>,
    /// How many neighbors.
    #[arg(short, value_name = "K", default_value_t = 10)]
    pub(crate) k: usize,
}

#[derive(Debug, Args)]
pub(crate) struct Report {
    /// Folder of the run.
    #[arg(value_name = "RUN_DIR")]
    pub(crate) run: PathBuf,
    /// best, last, or the name of a checkpoint.
    #[arg(long, value_name = "NAME", default_value = "best")]
    pub(crate) checkpoint: String,
    /// The page (default: report.html in the folder of the run).
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Export {
    /// Folder of the run.
    #[arg(value_name = "RUN_DIR")]
    pub(crate) run: PathBuf,
    /// best, last, or the name of a checkpoint.
    #[arg(long, value_name = "NAME", default_value = "best")]
    pub(crate) checkpoint: String,
    /// The new folder, of a `bert` with a `tokenizer`; or the new .safetensors, of any other model.
    #[arg(short, long, value_name = "OUT")]
    pub(crate) output: PathBuf,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Data {
    /// List every problem of some data, with the fix.
    Check {
        /// A run file, or the data themselves: a folder of class folders, a CSV, a TSV or a JSON lines file.
        #[arg(value_name = "RUN.toml|PATH")]
        what: PathBuf,
    },
    /// List the data sets that can be fetched.
    List,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Config {
    /// Write a run file to start from.
    Init {
        /// For which data.
        #[arg(value_enum, default_value_t = Template::Images)]
        template: Template,
        /// Where to write it.
        #[arg(short, long, value_name = "FILE", default_value = "run.toml")]
        output: PathBuf,
    },
    /// Say what is wrong in a run file, and whether its `weights` are those of its models.
    Check {
        /// The run file.
        #[arg(value_name = "RUN.toml")]
        run: PathBuf,
        /// Change a setting first.
        #[arg(long = "set", value_name = "KEY=VALUE")]
        set: Vec<String>,
    },
    /// Print a run file with every default written out.
    Show {
        /// The run file.
        #[arg(value_name = "RUN.toml")]
        run: PathBuf,
        /// Change a setting first.
        #[arg(long = "set", value_name = "KEY=VALUE")]
        set: Vec<String>,
    },
    /// Print every name a run file knows, with its settings and defaults.
    Reference,
}

/// Which run file to begin with.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Template {
    /// A folder of class folders with images.
    Images,
    /// A folder of class folders with sounds.
    Sounds,
    /// A CSV of numbers with a column of classes.
    Table,
    /// A table of text pairs with a score.
    Pairs,
    /// A table of sentence pairs with a score, and their parses in CoNLL-U.
    Parsed,
    /// A CSV of numbers with a column of numbers to tell, such as an age.
    Targets,
    /// A CSV of numbers with a column of several labels.
    Labels,
    /// A list of images from two domains, such as sketches and photographs.
    Domains,
    /// Images with masks that say of each pixel which instance it is of.
    Masks,
    /// Images whose classes are not looked at: two views of each.
    Views,
    /// A folder of class folders with volumes.
    Volumes,
    /// Things of which there are several pictures each.
    MultiView,
    /// A folder of class folders with sets of points.
    Points,
    /// Things of two kinds that belong together, such as texts and images.
    TwoKinds,
    /// The handwritten digits that are in the program.
    Digits,
}
