//! Every figure is drawn, read back and looked at as far as a program can: size, number of colours, the inks it must
//! hold. With LWFLOW_FIGURE_DIR set the files are kept there for a person to look at.

use super::colour::{BLUE, GREEN, INK, NO_VALUE, Rgb, VERMILION, viridis};
use super::*;
use std::collections::HashSet;
use std::f64::consts::{PI, TAU};
use std::path::Path;

/// Numbers that are the same in every run: SplitMix64 (Steele, Lea and Flood 2014).
struct Random(u64);

impl Random {
    fn uniform(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }

    fn normal(&mut self) -> f64 {
        (-2.0 * (1.0 - self.uniform()).ln()).sqrt() * (TAU * self.uniform()).cos()
    }
}

/// `[0.5: (-4, -2.5)], [0.3: (4, -2), correlation 0.7], [0.2: (0, 4)]`, weights and all.
const MODES: [(f64, [f64; 2], [f64; 2], f64); 3] = [
    (0.5, [-4.0, -2.5], [1.0, 1.0], 0.0),
    (0.3, [4.0, -2.0], [1.0, 0.7], 0.7),
    (0.2, [0.0, 4.0], [0.8, 0.8], 0.0),
];

fn gauss3(random: &mut Random, n: usize) -> Vec<f64> {
    (0..n)
        .flat_map(|_| {
            let u = random.uniform();
            let (_, mean, sd, rho) = MODES[usize::from(u > 0.5) + usize::from(u > 0.8)];
            let (a, b) = (random.normal(), random.normal());
            [mean[0] + sd[0] * a, mean[1] + sd[1] * (rho * a + (1.0 - rho * rho).sqrt() * b)]
        })
        .collect()
}

fn log_gauss3(x: f64, y: f64) -> f64 {
    let terms = MODES.map(|(a, mean, sd, rho)| {
        let (u, v) = ((x - mean[0]) / sd[0], (y - mean[1]) / sd[1]);
        let s = 1.0 - rho * rho;
        (a / (TAU * sd[0] * sd[1] * s.sqrt())).ln() - 0.5 * (u * u - 2.0 * rho * u * v + v * v) / s
    });
    let top = terms.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    top + terms.iter().map(|t| (t - top).exp()).sum::<f64>().ln()
}

struct Png {
    size: FigureSize,
    colours: HashSet<Rgb>,
    pixels: Vec<Rgb>,
}

/// Draws into a folder of its own and reads the file back.
fn drawn(name: &str, draw: impl FnOnce(&Path) -> Result<FigureSize, FigureError>) -> Png {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join(name);
    let promised = draw(&file).unwrap();
    let decoder = png::Decoder::new(std::fs::File::open(&file).unwrap());
    let mut reader = decoder.read_info().unwrap();
    let mut buffer = vec![0; reader.output_buffer_size()];
    let info = reader.next_frame(&mut buffer).unwrap();
    assert_eq!(info.color_type, png::ColorType::Rgb);
    let size = FigureSize { width: info.width, height: info.height };
    assert_eq!(size, promised, "{name}");
    if let Some(keep) = std::env::var_os("LWFLOW_FIGURE_DIR") {
        std::fs::copy(&file, Path::new(&keep).join(name)).unwrap();
    }
    let pixels: Vec<Rgb> = buffer.chunks_exact(3).map(|p| [p[0], p[1], p[2]]).collect();
    Png { size, colours: pixels.iter().copied().collect(), pixels }
}

impl Png {
    /// Thin lines are averaged with what is around them, so a colour counts if it is nearly there.
    fn has(&self, colour: Rgb) -> bool {
        self.colours.iter().any(|c| (0..3).all(|i| c[i].abs_diff(colour[i]) <= 24))
    }

    /// No ink on the outermost pixels: nothing is cut off.
    fn has_clean_border(&self) -> bool {
        let (w, h) = (self.size.width as usize, self.size.height as usize);
        (0..w * h)
            .filter(|i| i % w == 0 || i % w == w - 1 || i / w == 0 || i / w == h - 1)
            .all(|i| self.pixels[i] == [255; 3])
    }
}

fn axes(n: usize) -> Vec<FigureAxis> {
    (0..n).map(|i| FigureAxis::new(Label::latex(&format!("\\theta_{{{i}}}")))).collect()
}

fn series<'a>(
    role: SeriesRole,
    name: &'a str,
    theta: &'a [f64],
    weights: Option<&'a [f64]>,
) -> CornerSeries<'a> {
    CornerSeries { role, name, theta, weights }
}

#[test]
fn corner_of_three_modes() {
    let mut random = Random(1);
    let flow = gauss3(&mut random, 10_000);
    let truth = gauss3(&mut random, 10_000);
    let training: Vec<f64> = (0..2 * 65_536).map(|_| 16.0 * random.uniform() - 8.0).collect();
    let weights: Vec<f64> = training.chunks(2).map(|p| log_gauss3(p[0], p[1]).exp()).collect();
    let series = [
        series(SeriesRole::Training, "training points, weighted", &training, Some(&weights)),
        series(SeriesRole::Flow, "flow", &flow, None),
        series(SeriesRole::Truth, "truth", &truth, None),
    ];
    let title = Label::plain("gauss3: mixture base, three components");
    let png = drawn("corner2.png", |file| corner(file, &axes(2), &series, Some(&title)));
    assert!(png.has(BLUE) && png.has(VERMILION) && png.has(INK));
    assert!(png.colours.len() > 200 && png.has_clean_border());
}

/// Five parameters of different kinds: correlated, bounded, tiny, large, skewed.
fn five(random: &mut Random, n: usize) -> Vec<f64> {
    (0..n)
        .flat_map(|_| {
            let (a, b, c) = (random.normal(), random.normal(), random.normal());
            [
                0.31 + 0.007 * a,
                2.1e-9 + 3e-11 * (0.9 * a + 0.43 * b),
                b.abs() * 0.1,
                67.4 + 0.5 * c,
                2.5e5 * (0.4 * c).exp(),
            ]
        })
        .collect()
}

#[test]
fn corner_of_five_kinds_of_parameter() {
    let mut random = Random(2);
    let (flow, truth) = (five(&mut random, 8000), five(&mut random, 3000));
    let labels = [r"\Omega_{\rm m}", r"A_{\rm s}", r"\sum m_\nu\,[{\rm eV}]", "H_0", r"M_{\rm BH}/M_\odot"];
    let mut axes: Vec<FigureAxis> = labels.iter().map(|l| FigureAxis::new(Label::latex(l))).collect();
    axes[2].lower = Some(0.0);
    let series =
        [series(SeriesRole::Flow, "flow", &flow, None), series(SeriesRole::Truth, "PolyChord", &truth, None)];
    let png = drawn("corner5.png", |file| corner(file, &axes, &series, None));
    assert!(png.has(BLUE) && png.has(INK) && png.colours.len() > 200 && png.has_clean_border());
}

#[test]
fn corner_of_one_and_of_many() {
    let mut random = Random(3);
    let one: Vec<f64> = (0..3000).map(|_| random.normal()).collect();
    let flow = [series(SeriesRole::Flow, "flow", &one, None)];
    let png = drawn("corner1.png", |file| corner(file, &axes(1), &flow, None));
    assert!(png.has(BLUE) && png.colours.len() > 50 && png.has_clean_border());

    let many: Vec<f64> = (0..12 * 2000).map(|_| random.normal()).collect();
    let flow = [series(SeriesRole::Flow, "flow", &many, None)];
    let title = Label::plain("Twelve parameters");
    let png = drawn("corner12.png", |file| corner(file, &axes(12), &flow, Some(&title)));
    assert!(png.has(BLUE) && png.has_clean_border());
    assert!(png.size.width < 1600 && png.size.height < 1600, "{:?}", png.size);
}

/// What is wrong, samples, weights.
type Degenerate<'a> = (&'a str, &'a [f64], Option<&'a [f64]>);

#[test]
fn corner_of_degenerate_samples() {
    let nan = f64::NAN;
    let cases: [Degenerate<'_>; 8] = [
        ("none", &[], None),
        ("one point", &[1.0, 2.0], None),
        ("no range", &[3.0, 1.0, 3.0, 2.0, 3.0, 3.0], None),
        ("nan", &[nan, 1.0, 2.0, nan, 1.0, 1.0, 2.0, 3.0], None),
        ("all nan", &[nan, nan], None),
        ("no weight", &[1.0, 2.0, 3.0, 4.0], Some(&[0.0, 0.0])),
        ("bad weights", &[1.0, 2.0, 3.0, 4.0], Some(&[nan, -1.0])),
        ("huge", &[-1e308, 1e308, 1e308, -1e308], Some(&[1e300, 1e-300])),
    ];
    for (name, theta, weights) in cases {
        let sets = [SeriesRole::Flow, SeriesRole::Training, SeriesRole::Truth]
            .map(|role| series(role, name, theta, weights));
        for sets in [&sets[..], &sets[..1]] {
            let png = drawn("corner-degenerate.png", |file| corner(file, &axes(2), sets, None));
            assert!(png.has(INK) && png.has_clean_border(), "{name}");
        }
    }
    // Bounds that leave out every sample.
    let mut bounded = axes(2);
    (bounded[0].lower, bounded[0].upper) = (Some(5.0), Some(5.0));
    bounded[1].upper = Some(nan);
    let sets = [series(SeriesRole::Flow, "flow", &[1.0, 2.0, 1.5, 2.5], None)];
    let png = drawn("corner-bounds.png", |file| corner(file, &bounded, &sets, None));
    assert!(png.has(INK));
    let png = drawn("corner-empty.png", |file| corner(file, &axes(3), &[], None));
    assert!(png.has(INK));
}

#[test]
fn corner_refuses_shapes_that_do_not_fit() {
    let file = Path::new("never-written.png");
    let message =
        |axes: &[FigureAxis], s: CornerSeries<'_>| corner(file, axes, &[s], None).unwrap_err().to_string();
    let flow = series(SeriesRole::Flow, "flow", &[1.0, 2.0, 3.0], None);
    assert_eq!(
        message(&axes(2), flow),
        "figure: theta of flow has length 3, expected a multiple of 2, one per axis"
    );
    let flow = series(SeriesRole::Flow, "flow", &[1.0, 2.0, 3.0], Some(&[1.0, 2.0]));
    assert_eq!(message(&axes(1), flow), "figure: weights of flow has length 2, expected 3, one per sample");
    assert_eq!(message(&[], flow), "figure: axes has length 0, expected at least 1");
    assert!(!file.exists());
}

#[test]
fn a_folder_that_does_not_exist_is_named() {
    let error = loss_curves(Path::new("no/such/folder/loss.png"), &[], None, None).unwrap_err().to_string();
    assert!(error.starts_with("no/such/folder/loss.png: cannot write the figure: "), "{error}");
}

fn history(n: u64) -> Vec<LossRow> {
    let mut random = Random(4);
    (0..n)
        .map(|i| {
            let t = i as f64 / n as f64;
            let loss = 3.1 + 1.6 * (-12.0 * t).exp();
            LossRow {
                n_visits: 10_000 * i,
                training: loss + 0.05 * random.normal(),
                validation: i.is_multiple_of(4).then(|| loss + 0.03 + 0.04 * t + 0.01 * random.normal()),
                learning_rate: 1e-3 * (1.0 + (PI * t).cos()),
            }
        })
        .collect()
}

#[test]
fn loss_of_a_training() {
    let title = Label::plain("gauss3: training");
    let png = drawn("loss.png", |file| loss_curves(file, &history(400), Some((2e6, 3.15)), Some(&title)));
    assert_eq!(png.size, FigureSize { width: 900, height: 540 });
    assert!(png.has(BLUE) && png.has(VERMILION) && png.has(INK));
    assert!(png.colours.len() > 100 && png.has_clean_border());

    // A first loss far above the others, a gap, and a rate that falls by decades.
    let mut rows = history(60);
    rows[0].training = 4e6;
    rows[20].training = f64::NAN;
    for (i, row) in rows.iter_mut().enumerate() {
        row.learning_rate = 10f64.powf(-2.0 - i as f64 / 15.0);
    }
    let png = drawn("loss-spike.png", |file| loss_curves(file, &rows, None, None));
    assert!(png.has(BLUE) && png.has(GREEN) && png.has_clean_border());
}

#[test]
fn loss_of_degenerate_histories() {
    let row = LossRow { n_visits: 0, training: 2.0, validation: Some(2.0), learning_rate: 0.0 };
    let bad = LossRow { training: f64::NAN, validation: Some(f64::INFINITY), learning_rate: f64::NAN, ..row };
    let huge =
        LossRow { training: 1e308, validation: Some(-1e308), learning_rate: 1e308, n_visits: u64::MAX };
    for rows in [&[][..], &[row], &[row; 3], &[bad], &[row, bad, row], &[row, huge], &[huge, huge, bad]] {
        let png = drawn("loss-degenerate.png", |file| loss_curves(file, rows, Some((0.0, f64::NAN)), None));
        assert!(png.has(INK), "{rows:?}");
    }
}

fn map(n: usize, f: impl Fn(f64, f64) -> f64) -> LogDensityGrid {
    let all = |points: &[f64]| Ok::<_, FigureError>(points.chunks(2).map(|p| f(p[0], p[1])).collect());
    LogDensityGrid::evaluate((-8.0, 8.0), (-8.0, 8.0), (n, n), all).unwrap()
}

#[test]
fn map_of_three_modes() {
    let title = Label::plain("gauss3: log density of the flow");
    let settings = DensityMapSettings { title: Some(title), ..DensityMapSettings::default() };
    let png = drawn("map.png", |file| density_map(file, &map(200, log_gauss3), &settings));
    assert!(png.has(viridis(0.0)) && png.has(viridis(1.0)) && png.has(INK));
    assert!(png.colours.len() > 500 && png.has_clean_border());

    // Few cells, and units so different that the map is square.
    let grid = LogDensityGrid::new((0.0, 2e-9), (1e5, 2e5), (2, 1), vec![0.0, -3.0]).unwrap();
    let png = drawn("map-units.png", |file| density_map(file, &grid, &DensityMapSettings::default()));
    assert!(png.colours.len() > 100 && png.has_clean_border());
    assert!(png.size.width > png.size.height);
}

#[test]
fn the_map_is_the_right_way_up() {
    // One bright cell at large x and small y: lower right.
    let grid = LogDensityGrid::new((0.0, 1.0), (0.0, 1.0), (2, 2), vec![-90.0, 0.0, -90.0, -90.0]).unwrap();
    let png = drawn("map-corner.png", |file| density_map(file, &grid, &DensityMapSettings::default()));
    let width = png.size.width as usize;
    // The colour bar at the right has the brightest colour too: look at the left three quarters.
    let bright =
        png.pixels.iter().enumerate().filter(|(i, p)| **p == viridis(1.0) && i % width < 3 * width / 4);
    let (x, y) = bright.fold((0, usize::MAX), |(x, y), (i, _)| (x.max(i % width), y.min(i / width)));
    assert!(x > width / 2 && y > png.size.height as usize / 2, "{x} {y}");
}

#[test]
fn maps_of_degenerate_densities() {
    let settings = DensityMapSettings::default();
    for values in [[f64::NAN; 4], [f64::NEG_INFINITY; 4], [f64::INFINITY; 4], [2.0; 4]] {
        let grid = LogDensityGrid::new((0.0, 1.0), (0.0, 1.0), (2, 2), values.to_vec()).unwrap();
        let png = drawn("map-degenerate.png", |file| density_map(file, &grid, &settings));
        assert!(png.has(INK));
        let n_grey = png.pixels.iter().filter(|p| **p == NO_VALUE).count();
        assert_eq!(n_grey > 100_000, values[0].is_nan(), "{values:?}: {n_grey}");
    }
    let one = LogDensityGrid::new((0.0, 1.0), (0.0, 1.0), (1, 1), vec![0.0]).unwrap();
    assert!(drawn("map-one.png", |file| density_map(file, &one, &settings)).has(viridis(1.0)));
}

/// Times in seconds since some epoch: seven digits before the spread begins.
#[test]
fn map_far_from_zero() {
    let (x, y) = ((2_400_000.000_016, 2_400_000.000_804), (2_400_000.000_016, 2_400_000.000_804));
    let grid = LogDensityGrid::evaluate(x, y, (40, 40), |points| {
        let z = |v: f64| (v - 2_400_000.000_41) / 1e-4;
        Ok::<_, FigureError>(
            points.chunks_exact(2).map(|p| -0.5 * (z(p[0]).powi(2) + z(p[1]).powi(2))).collect(),
        )
    });
    let grid = grid.unwrap();
    assert!(grid.peak().is_some_and(|peak| peak > -0.05));
    assert!(
        drawn("map-far.png", |f| density_map(f, &grid, &DensityMapSettings::default())).has_clean_border()
    );
}

#[test]
fn maps_refuse_shapes_and_ranges() {
    let new = |x, n, values: usize| {
        LogDensityGrid::new(x, (0.0, 1.0), n, vec![0.0; values]).unwrap_err().to_string()
    };
    assert_eq!(
        new((0.0, 1.0), (2, 3), 5),
        "figure: log densities has length 5, expected n_x * n_y = 2 * 3, both at least 1"
    );
    for x in [(1.0, 1.0), (2.0, 1.0), (0.0, f64::INFINITY), (f64::NAN, 1.0)] {
        assert!(new(x, (1, 1), 1).starts_with("figure: the range of x is "), "{x:?}");
    }
    let grid = map(4, log_gauss3);
    for range in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        let settings = DensityMapSettings { range, ..DensityMapSettings::default() };
        let error = density_map(Path::new("never-written.png"), &grid, &settings).unwrap_err();
        assert!(matches!(error, FigureError::Range { .. }), "{error}");
    }
}

#[test]
fn grid_of_maps() {
    // A Gaussian base leaves bridges: a faint ridge between the modes.
    let bridge = |x: f64, y: f64| {
        let ridge = -9.0 - 4.0 * (y + 2.3).powi(2) - (x.abs() - 4.0).max(0.0).powi(2);
        let value = log_gauss3(x, y);
        value.max(ridge) + (-(value - ridge).abs()).exp().ln_1p()
    };
    let ring = |r0: f64| move |x: f64, y: f64| -0.5 * ((x.hypot(y) - r0) / 0.3).powi(2);
    let note = |text: &str| Some(Label::latex(text));
    let row = |name: &str, maps: [LogDensityGrid; 3], notes: [Option<Label>; 3]| GridRow {
        name: Label::plain(name),
        cells: maps.into_iter().zip(notes).map(|(grid, note)| GridCell { grid, note }).collect(),
    };
    let rows = [
        row(
            "gauss3",
            [map(120, log_gauss3), map(120, bridge), map(120, log_gauss3)],
            [None, note("KL 0.084, bridge mass 1.9 %"), note("KL 0.002, bridge mass 0.0 %")],
        ),
        row(
            "rings",
            [map(120, ring(5.0)), map(120, ring(5.2)), map(120, ring(5.0))],
            [None, None, note("KL 0.01")],
        ),
    ];
    let columns = ["truth", "Gaussian base", "mixture base"].map(Label::plain);
    let png = drawn("grid.png", |file| density_grid(file, &columns, &rows, 14.0));
    assert!(
        png.has(viridis(0.0)) && png.has(viridis(1.0)) && png.colours.len() > 500 && png.has_clean_border()
    );

    let error =
        density_grid(Path::new("never-written.png"), &columns[..2], &rows, 14.0).unwrap_err().to_string();
    assert_eq!(error, "figure: row gauss3 has length 3, expected 2, one map per column");
    assert!(density_grid(Path::new("never-written.png"), &columns, &[], 14.0).is_err());
}
