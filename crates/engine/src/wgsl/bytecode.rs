//! The program of a user's WGSL for the cores: operations on registers, where a register holds one scalar of many theta.
//! Invariant: WGSL has no recursion, so every function owns its registers and no stack is needed.

/// A register: floats apart from integers and truth values (0 or all ones).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Reg {
    F(u32),
    I(u32),
}

/// Functions of one float.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum F1 {
    Neg,
    Abs,
    Sign,
    Ceil,
    Floor,
    Round,
    Trunc,
    Fract,
    Sqrt,
    InverseSqrt,
    Exp,
    Exp2,
    Log,
    Log2,
    Sin,
    Cos,
    Tan,
    Asin,
    Acos,
    Atan,
    Sinh,
    Cosh,
    Tanh,
    Asinh,
    Acosh,
    Atanh,
    /// Exp that is clamped above 88 and zero below -87, as the device's.
    SafeExp,
    Erf,
    Erfc,
    LogErfc,
    Lgamma,
    FrexpFraction,
}

/// Functions of two floats.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum F2 {
    Add,
    Sub,
    Mul,
    Div,
    Rem,
    Min,
    Max,
    Atan2,
    Pow,
    LogAdd,
}

/// Comparisons of two floats.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Compare {
    Eq,
    Ne,
    Lt,
    Le,
}

/// Functions of one integer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum I1 {
    Neg,
    Not,
    Abs,
    Sign,
    CountOnes,
    LeadingZeros,
    TrailingZeros,
    Reverse,
    FirstTrailing,
    FirstLeadingSigned,
    FirstLeadingUnsigned,
    /// A truth value as 0 or 1.
    FromBool,
    /// Whether it is not 0.
    ToBool,
}

/// Functions of two integers; `S` signed, `U` unsigned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum I2 {
    Add,
    Sub,
    Mul,
    DivS,
    DivU,
    RemS,
    RemU,
    MinS,
    MinU,
    MaxS,
    MaxU,
    And,
    Or,
    Xor,
    Shl,
    ShrS,
    ShrU,
    Eq,
    Ne,
    LtS,
    LtU,
    LeS,
    LeU,
}

/// From float to integer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FtoI {
    ToI32,
    ToU32,
    NotZero,
    IsFinite,
    FrexpExponent,
    /// Only in 32 bits.
    Bits,
}

/// From integer to float.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ItoF {
    OfI32,
    OfU32,
    OfBool,
    /// Only in 32 bits.
    Bits,
}

/// A range of [`Bytecode::tables`]: the registers of an array's elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Table {
    pub begin: u32,
    pub len: u32,
}

/// One operation; its first register is written. All lanes are computed but by stores and scatters, which only touch
/// the lanes at work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Op {
    F1(F1, u32, u32),
    F2(F2, u32, u32, u32),
    Compare(Compare, u32, u32, u32),
    I1(I1, u32, u32),
    I2(I2, u32, u32, u32),
    FtoI(FtoI, u32, u32),
    ItoF(ItoF, u32, u32),
    /// x 2^n: float, float, integer.
    Ldexp(u32, u32, u32),
    /// Where the integer register is not 0: the first, else the second.
    SelectF(u32, u32, u32, u32),
    SelectI(u32, u32, u32, u32),
    CopyF(u32, u32),
    CopyI(u32, u32),
    StoreF(u32, u32),
    StoreI(u32, u32),
    /// A store whose source is not looked at again.
    MoveF(u32, u32),
    MoveI(u32, u32),
    /// Destination, elements, index.
    GatherF(u32, Table, u32),
    GatherI(u32, Table, u32),
    /// Elements, index, source.
    ScatterF(Table, u32, u32),
    ScatterI(Table, u32, u32),
    /// Destination, row, column.
    Data(u32, u32, u32),
}

/// Structured control flow over runs of operations.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Node {
    /// A range of [`Bytecode::ops`].
    Run(usize, usize),
    If {
        condition: u32,
        accept: Vec<Node>,
        reject: Vec<Node>,
    },
    Switch {
        selector: u32,
        cases: Vec<Case>,
        default: Vec<Node>,
    },
    Loop {
        body: Vec<Node>,
        continuing: Vec<Node>,
        break_if: Option<u32>,
        /// Byte in the user's text, for a loop that does not end.
        at: usize,
    },
    Break,
    Continue,
    Return,
    /// Arguments and result are in the function's registers.
    Call(usize),
}

/// One body of a switch and the values that choose it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Case {
    pub values: Vec<u32>,
    pub body: Vec<Node>,
}

/// One function.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Function {
    pub body: Vec<Node>,
    /// The registers of every argument.
    pub arguments: Vec<Vec<Reg>>,
    /// The registers of the result.
    pub result: Vec<Reg>,
}

/// A whole program.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Bytecode {
    pub ops: Vec<Op>,
    pub tables: Vec<u32>,
    pub functions: Vec<Function>,
    /// Float registers that hold constants.
    pub constants_f: Vec<(u32, f64)>,
    /// Integer registers that hold constants.
    pub constants_i: Vec<(u32, u32)>,
    /// Operations that give private variables their first values: a range of `ops`.
    pub prologue: (usize, usize),
    pub n_f: usize,
    pub n_i: usize,
    /// Indices into `functions`: what is evaluated first, `log_likelihood` or `simulate`.
    pub entry: usize,
    pub derived: Option<usize>,
}
