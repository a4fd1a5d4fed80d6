//! The child process of the tests: log L = -|theta|^2 / 2, derived the sum of theta and the process number, and on demand
//! every kind of misbehaviour. Its arguments are: protocol, number of derived quantities, what to do at the row whose
//! first parameter is [`TRIGGER`].

use std::io::{BufRead, BufReader, Write};
use std::time::Duration;

/// The first parameter of the row at which a child misbehaves.
pub const TRIGGER: f64 = 77.0;

/// Answers until its input ends.
pub fn run(arguments: &[String]) {
    let [protocol, n_derived, mode] = arguments else { panic!("child: {arguments:?}") };
    let n_derived: usize = n_derived.parse().unwrap();
    let mut input = BufReader::new(std::io::stdin().lock());
    let mut out = std::io::stdout().lock();
    if mode == "deaf" {
        return;
    }
    if mode == "chatty" {
        out.write_all(b"loading the model ...\n").unwrap();
        out.flush().unwrap();
    }
    while let Some((n, dim)) = header(protocol, &mut input) {
        if mode == "slow" {
            std::thread::sleep(Duration::from_millis(20));
        }
        // Row by row, so that answers come while the batch is still being written.
        for row in 0..n {
            let theta = theta(protocol, &mut input, dim);
            let log_likelihood = -0.5 * theta.iter().map(|x| x * x).sum::<f64>();
            let derived = [theta.iter().sum(), f64::from(std::process::id())];
            let mut numbers = vec![log_likelihood];
            numbers.extend(&derived[..n_derived]);
            if mode == "marker" {
                numbers[0] = if std::path::Path::new("marker").exists() { 1.0 } else { 0.0 };
            }
            if mode == "loud" {
                eprintln!("{}", "x".repeat(5000));
            }
            if theta[0] == TRIGGER {
                misbehave(mode, &mut numbers, &mut out);
            }
            answer(protocol, &numbers, &mut out);
            if mode == "excess" && row + 1 == n {
                answer(protocol, &numbers, &mut out);
            }
        }
        if out.flush().is_err() {
            return;
        }
    }
}

/// A simulator that answers theta 0, the seed, the number of the simulation and its process, until its input ends. Arguments:
/// protocol, what to do at the row whose first parameter is [`TRIGGER`].
pub fn simulate(arguments: &[String]) {
    let [protocol, mode] = arguments else { panic!("simulator: {arguments:?}") };
    let seed: f64 = std::env::var("LWFLOW_SEED").unwrap().parse().unwrap();
    let mut input = BufReader::new(std::io::stdin().lock());
    let mut out = std::io::stdout().lock();
    while let Some((n, dim, first)) = simulator_header(protocol, &mut input) {
        for row in 0..n {
            let theta = theta(protocol, &mut input, dim);
            let number = first.wrapping_add(row as u64);
            let mut x = vec![theta[0], seed, number as f64, f64::from(std::process::id())];
            if theta[0] == TRIGGER {
                match mode.as_str() {
                    "failed" => x.fill(f64::NAN),
                    "nan" => x[2] = f64::NAN,
                    "inf" => x.fill(f64::INFINITY),
                    "wide" => x.push(1.0),
                    _ => std::process::exit(3),
                }
            }
            answer(protocol, &x, &mut out);
        }
        if out.flush().is_err() {
            return;
        }
        // So that every worker gets a part.
        std::thread::sleep(Duration::from_millis(if mode == "slow" { 20 } else { 0 }));
    }
}

/// n, D and the number of the first simulation.
fn simulator_header(protocol: &str, input: &mut impl BufRead) -> Option<(usize, Option<usize>, u64)> {
    if protocol == "csv" {
        let mut line = String::new();
        return (input.read_line(&mut line).unwrap() > 0).then(|| {
            let (n, first) = line.trim().split_once(',').unwrap();
            (n.parse().unwrap(), None, first.parse().unwrap())
        });
    }
    let (n, dim) = header(protocol, input)?;
    let mut eight = [0; 8];
    input.read_exact(&mut eight).unwrap();
    Some((n, dim, u64::from_le_bytes(eight)))
}

fn misbehave(mode: &str, numbers: &mut Vec<f64>, out: &mut impl Write) {
    out.flush().unwrap();
    match mode {
        "nan" => numbers[0] = f64::NAN,
        "inf" => numbers[0] = f64::INFINITY,
        "derived_nan" => numbers[1] = f64::NAN,
        "zero" => {
            numbers[0] = f64::NEG_INFINITY;
            numbers[1] = f64::NAN;
        }
        "crash" => {
            (0..20).for_each(|i| eprintln!("trace {i}"));
            eprintln!("ZeroDivisionError: the mass is zero");
            std::process::exit(3);
        }
        "quit" => std::process::exit(0),
        "hang" => {
            eprintln!("waiting for a licence");
            std::thread::sleep(Duration::from_secs(3600));
        }
        "half" => {
            out.write_all(b"-0.").unwrap();
            out.flush().unwrap();
            std::thread::sleep(Duration::from_secs(3600));
        }
        "text" => {
            out.write_all(b"Traceback: no such thing\n").unwrap();
            out.flush().unwrap();
        }
        "wide" => numbers.push(1.0),
        _ => {}
    }
}

fn header(protocol: &str, input: &mut impl BufRead) -> Option<(usize, Option<usize>)> {
    if protocol == "csv" {
        let mut line = String::new();
        return (input.read_line(&mut line).unwrap() > 0).then(|| (line.trim().parse().unwrap(), None));
    }
    let mut eight = [0; 8];
    input.read_exact(&mut eight).ok()?;
    let n = u64::from_le_bytes(eight) as usize;
    input.read_exact(&mut eight).unwrap();
    Some((n, Some(u64::from_le_bytes(eight) as usize)))
}

fn theta(protocol: &str, input: &mut impl BufRead, dim: Option<usize>) -> Vec<f64> {
    if protocol == "csv" {
        let mut line = String::new();
        assert!(input.read_line(&mut line).unwrap() > 0);
        return line.trim().split(',').map(|x| x.parse().unwrap()).collect();
    }
    let mut bytes = vec![0; 8 * dim.unwrap()];
    input.read_exact(&mut bytes).unwrap();
    bytes.chunks_exact(8).map(|b| f64::from_le_bytes(b.try_into().unwrap())).collect()
}

fn answer(protocol: &str, numbers: &[f64], out: &mut impl Write) {
    let result = if protocol == "csv" {
        let cells: Vec<String> = numbers.iter().map(|x| format!("{x:?}")).collect();
        writeln!(out, "{}", cells.join(","))
    } else {
        numbers.iter().try_for_each(|x| out.write_all(&x.to_le_bytes()))
    };
    // Whoever asked may have gone.
    if result.is_err() {
        std::process::exit(0);
    }
}
