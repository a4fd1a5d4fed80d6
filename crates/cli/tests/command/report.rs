//! `lwflow report`: the page has every part, stands alone, escapes what it is given, says what is missing, and refuses what is
//! damaged. With LWFLOW_BROWSER, the path of a Chromium, a browser opens it as well.

use crate::calibrate::calibrated;
use crate::golden::golden;
use crate::harness::{Run, command, fitted, has_device, lwflow};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// Elements that have no end.
const VOID: [&str; 3] = ["meta", "link", "br"];
/// A name that would be a script if it were not escaped.
const EVIL: &str = "<script>alert(1)</script>";

/// Fails unless the page is whole: every element is closed in its order, ids are used once, nothing outside is referred to.
#[track_caller]
pub fn check_page(html: &str) {
    assert!(html.starts_with("<!DOCTYPE html>") && html.trim_end().ends_with("</html>"));
    let mut open: Vec<&str> = Vec::new();
    let mut ids = BTreeSet::new();
    let body = &html["<!DOCTYPE html>".len()..];
    for part in body.split('<').skip(1) {
        assert!(part.contains('>'), "a tag without end: {part:.80}");
        let (tag, _) = part.split_once('>').unwrap();
        let name = tag.trim_start_matches('/').split([' ', '\n', '/']).next().unwrap();
        if tag.starts_with('/') {
            assert_eq!(open.pop(), Some(name), "closed out of order");
        } else if !tag.ends_with('/') && !VOID.contains(&name) {
            open.push(name);
        }
        for (_, id) in tag.match_indices(" id=\"").map(|(at, found)| tag.split_at(at + found.len())) {
            let id = id.split('"').next().unwrap();
            assert!(ids.insert(id.to_owned()), "the id {id} is used twice");
        }
    }
    assert!(open.is_empty(), "not closed: {open:?}");
    for word in ["http://", "https://", "<script", "<img", "@import", "url(", " src=", "NaN", "\u{e000}"] {
        assert!(!html.contains(word), "the page contains `{word}`");
    }
    for reference in html.split("href=\"").skip(1) {
        let target = reference.split('"').next().unwrap();
        let inside = target.strip_prefix('#').is_some_and(|id| ids.contains(id));
        assert!(inside || target == "data:,", "a link to {target}");
    }
    // Every figure says in words what it shows.
    for svg in html.split("<svg ").skip(1) {
        assert!(svg.contains("role=\"img\"") && svg.contains("<title ") && svg.contains("<desc "));
    }
    assert!(html.len() < 3_000_000, "{} bytes", html.len());
}

#[track_caller]
pub fn has(html: &str, words: &[&str]) {
    for word in words {
        assert!(html.contains(word), "no `{word}` in the page");
    }
}

/// A short run of rounds over two modes, with figures: a parameter of an evil name, one with a label, a true value, a
/// derived quantity.
fn ran() -> &'static (PathBuf, Run) {
    static RAN: OnceLock<(PathBuf, Run)> = OnceLock::new();
    RAN.get_or_init(|| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("lwflow-report");
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        let wgsl = "fn log_likelihood(theta: array<f32, D>) -> f32 {
            let a = normal_log_pdf(theta[0], -2.0, 0.3) + normal_log_pdf(theta[1], 1.0, 0.3);
            let b = normal_log_pdf(theta[0], 2.0, 0.3) + normal_log_pdf(theta[1], -1.0, 0.3);
            return log_add(a, b) - log(2.0);
        }
        fn derived(theta: array<f32, D>) -> array<f32, 1> { return array<f32, 1>(theta[0] + theta[1]); }\n";
        fs::write(folder.join("two.wgsl"), wgsl).unwrap();
        let text = format!(
            "[likelihood]\nwgsl = \"two.wgsl\"\nderived = [\"sum\"]\n\
             [parameters.a]\nlabel = '\\Omega_{{\\rm m}}h^2'\nprior = \"uniform\"\nlower = -4.0\nupper = 4.0\ntruth = -1.75\n\
             [parameters.\"{EVIL}\"]\nprior = \"normal\"\nmean = 0.0\nsd = 2.0\n\
             [flow]\nn_layers = 4\nhidden = [16, 16]\n[training]\nmax_visits = 40000\n\
             [rounds]\ntarget_ess = 1000\nmax_evaluations = 20000\n"
        );
        fs::write(folder.join("TASK.toml"), text).unwrap();
        let mut fit = command(&folder);
        let run = Run::from(fit.args("fit TASK.toml --device cpu --out run".split(' ')).output().unwrap());
        (folder, run.expect(0, &["verdict: contract met", "report: run"]))
    })
}

#[test]
fn the_page_of_a_fit_has_every_part() {
    if !has_device() {
        return;
    }
    let (folder, run) = fitted();
    assert!(run.out.contains("report: run"), "{}", run.out);
    let html = fs::read_to_string(folder.join("run/report.html")).unwrap();
    check_page(&html);
    has(
        &html,
        &[
            "there is no verdict",
            "What this cannot tell",
            "212 parameters",
            "Corner plot",
            "flow, draws of equal weight",
            "training points, weighted",
            "prior (on the diagonal)",
            "Log weights of 2000 points",
            "Target against flow",
            "Modes and bridges",
            "learning rate",
            "lwflow fit TASK.toml --out run --seed 7",
            "α",
            "&quot;batch_size&quot;: 128",
        ],
    );
    // The page is made of the folder's files alone: later, the same.
    lwflow(folder, "report run --out again.html --force").expect(0, &["report: again.html"]);
    assert!(fs::read_to_string(folder.join("again.html")).unwrap() == html);
    lwflow(folder, "report run --out again.html").expect(3, &["again.html: already there", "--force"]);
    lwflow(folder, "report run").expect(0, &["report: run"]);
}

#[test]
fn the_page_of_rounds_has_every_part_and_escapes_names() {
    let (folder, _) = ran();
    let html = fs::read_to_string(folder.join("run/report.html")).unwrap();
    check_page(&html);
    has(
        &html,
        &[
            "The contract is met",
            "with 95 % confidence at least",
            "log Z = -3.",
            "training points, weighted",
            "weighted draws",
            "equal-weight draws",
            "true values",
            "prior (on the diagonal)",
            "Ω<tspan",
            "sum",
            "The path of the rounds",
            "asked for by the contract",
            "Pareto tail",
            "fresh draws of the flow",
            "round 1",
            "hits of the scan",
            "Bridges: ",
            "evaluations per second",
            "&lt;script&gt;alert(1)&lt;",
        ],
    );
    // What no drawing is made of says so: without the files that newer folders have, and without any but the model.
    let old = tempfile::tempdir().unwrap();
    for name in ["model.safetensors", "samples.npz", "verdict.json", "metrics.json"] {
        fs::copy(folder.join("run").join(name), old.path().join(name)).unwrap();
    }
    lwflow(old.path(), "report .").expect(0, &[]);
    let html = fs::read_to_string(old.path().join("report.html")).unwrap();
    check_page(&html);
    has(
        &html,
        &["history.csv is not in the folder", "points.npz is not in the folder", "The contract is met"],
    );
    for name in ["samples.npz", "verdict.json", "metrics.json"] {
        fs::remove_file(old.path().join(name)).unwrap();
    }
    lwflow(old.path(), "report .").expect(0, &[]);
    let html = fs::read_to_string(old.path().join("report.html")).unwrap();
    check_page(&html);
    has(&html, &["metrics.json is not in the folder", "There are no draws to show"]);
}

#[test]
fn several_folders_lie_over_each_other() {
    let (folder, _) = ran();
    let line = format!("report run {} --out both.html --force", golden("v1").display());
    lwflow(folder, &line).expect(0, &["report: both.html"]);
    let html = fs::read_to_string(folder.join("both.html")).unwrap();
    check_page(&html);
    // The other model has the parameter a, and not the other one.
    has(&html, &["run: weighted draws", "var(--purple)", "v1: ", "v1 does not have &lt;script"]);
    assert_eq!(html.matches("class=\"verdict ").count(), 2);
}

#[test]
fn folders_without_results_and_damaged_files_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    lwflow(at, "report").expect(2, &["DIR"]);
    lwflow(at, "report none").expect(3, &["none: no such folder"]);
    fs::write(at.join("file"), "").unwrap();
    lwflow(at, "report file").expect(3, &["file: is no folder"]);
    fs::create_dir_all(at.join("empty/run")).unwrap();
    lwflow(at, "report empty").expect(3, &["empty: no model.safetensors"]);
    fs::write(at.join("empty/run/run.json"), "{}").unwrap();
    lwflow(at, "report empty").expect(3, &["the rounds have not ended", "--resume"]);
    let copy = || {
        let _ = fs::remove_dir_all(at.join("r"));
        fs::create_dir(at.join("r")).unwrap();
        for name in ["model.safetensors", "samples.npz", "verdict.json"] {
            fs::copy(golden("v1").join(name), at.join("r").join(name)).unwrap();
        }
    };
    let cases = [
        ("verdict.json", "{\"met\": ", "verdict.json: damaged: EOF"),
        ("metrics.json", "[]]", "metrics.json: damaged: trailing"),
        ("metrics.json", "{\"task\": {\"parameters\": 3}}", "metrics.json: task.parameters"),
        ("samples.npz", "PK", "samples.npz"),
        ("points.npz", "", "points.npz"),
        ("history.csv", "visits\n", "history.csv: damaged: no column `training_loss`"),
        ("model.safetensors", "{}", "model.safetensors"),
    ];
    for (name, text, said) in cases {
        copy();
        fs::write(at.join("r").join(name), text).unwrap();
        lwflow(at, "report r").expect(3, &[said]);
        assert!(!at.join("r/report.html").exists(), "{name}");
    }
    // JSON of another kind than ours is a page that knows little, not a crash.
    copy();
    fs::write(at.join("r/metrics.json"), "{\"rounds\": 7, \"task\": null, \"command\": [1]}").unwrap();
    fs::write(at.join("r/verdict.json"), "[\"met\"]").unwrap();
    lwflow(at, "report r").expect(0, &[]);
    check_page(&fs::read_to_string(at.join("r/report.html")).unwrap());
}

/// What a browser prints and writes for a page; its messages and the page after its scripts ran.
fn browse(browser: &Path, folder: &Path, page: &Path, more: &[String]) -> (String, String) {
    let output = Command::new(browser)
        .args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--no-first-run",
            "--disable-background-networking",
        ])
        .args(["--disable-component-update", "--hide-scrollbars", "--enable-logging=stderr"])
        .arg(format!("--user-data-dir={}", folder.join("profile").display()))
        .args(more)
        .arg(format!("file://{}", page.display()))
        .output()
        .unwrap();
    let words = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}", words(&output.stderr));
    (words(&output.stdout), words(&output.stderr))
}

/// Mean lightness of a screenshot, 0 to 255.
fn lightness(file: &Path) -> f64 {
    let decoder = png::Decoder::new(std::io::BufReader::new(fs::File::open(file).unwrap()));
    let mut reader = decoder.read_info().unwrap();
    let mut pixels = vec![0; reader.output_buffer_size()];
    reader.next_frame(&mut pixels).unwrap();
    pixels.iter().map(|v| f64::from(*v)).sum::<f64>() / pixels.len() as f64
}

/// A browser shows the page without a complaint or a request, every figure has a size, and light and dark differ. With
/// LWFLOW_FIGURE_DIR the screenshots are kept there.
#[test]
fn a_browser_shows_the_page() {
    let Some(browser) = std::env::var_os("LWFLOW_BROWSER").map(PathBuf::from) else {
        lwflow_skip::skip("LWFLOW_BROWSER does not name a browser");
        return;
    };
    let mut pages = vec![("rounds", ran().0.join("run/report.html"))];
    let (calibrated, own) = (calibrated().join("report.html"), calibrated().join("calibration.html"));
    pages.extend([("calibrated", calibrated), ("calibration", own)]);
    if has_device() {
        pages.push(("fit", fitted().0.join("run/report.html")));
    }
    for (name, page) in pages {
        let folder = tempfile::tempdir().unwrap();
        let shot = |kind: &str| folder.path().join(format!("{name}-{kind}.png"));
        // Blink counts dark as 0 and light as 1.
        for (kind, scheme) in [("light", 1), ("dark", 0)] {
            let more = [
                format!("--screenshot={}", shot(kind).display()),
                "--window-size=1280,5200".into(),
                format!("--blink-settings=preferredColorScheme={scheme}"),
            ];
            let (_, said) = browse(&browser, folder.path(), &page, &more);
            assert!(!said.contains("CONSOLE"), "{said}");
            if let Some(keep) = std::env::var_os("LWFLOW_FIGURE_DIR") {
                fs::copy(shot(kind), Path::new(&keep).join(format!("report-{name}-{kind}.png"))).unwrap();
            }
        }
        let (light, dark) = (lightness(&shot("light")), lightness(&shot("dark")));
        assert!(light > 200.0 && dark < 80.0, "{name}: light {light:.0}, dark {dark:.0}");
        // A copy that is let run a script tells what the browser made of it.
        let html = fs::read_to_string(&page).unwrap();
        let script = "<script>
            const figures = [...document.querySelectorAll('svg')].map(s => s.getBoundingClientRect());
            const small = figures.filter(r => r.width < 250 || r.height < 200).length;
            const wide = document.documentElement.scrollWidth > document.documentElement.clientWidth;
            const text = [...document.querySelectorAll('svg text')].filter(t => t.textContent.trim()).length;
            const out = [...document.querySelectorAll('svg')].flatMap(s => [...s.querySelectorAll('text')].filter(t => {
                const a = s.getBoundingClientRect(), b = t.getBoundingClientRect();
                return b.left < a.left - 1 || b.right > a.right + 1 || b.top < a.top - 1 || b.bottom > a.bottom + 1;
            })).length;
            const requests = performance.getEntriesByType('resource').length;
            document.body.setAttribute('data-found',
                `figures ${figures.length} small ${small} wide ${wide} text ${text > 60} out ${out} requests ${requests}`);
            </script></body>";
        let probe = folder.path().join("probe.html");
        let policy = "<meta http-equiv=\"Content-Security-Policy\"";
        assert!(html.contains(policy));
        fs::write(&probe, html.replace(policy, "<meta name=\"was\"").replace("</body>", script)).unwrap();
        let (dom, _) =
            browse(&browser, folder.path(), &probe, &["--dump-dom".into(), "--window-size=1280,900".into()]);
        let found = dom.split("data-found=\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap();
        let n = html.matches("<svg ").count();
        assert_eq!(found, format!("figures {n} small 0 wide false text true out 0 requests 0"), "{name}");
        let pdf = folder.path().join("page.pdf");
        browse(&browser, folder.path(), &page, &[format!("--print-to-pdf={}", pdf.display())]);
        assert!(fs::read(&pdf).unwrap().starts_with(b"%PDF"));
    }
}
