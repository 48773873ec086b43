//! Which number comes next? Portable random streams, each named by a seed and a name, and our own ways from their words
//! to samples, so that a seed gives the same bytes on any machine.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

/// A stream of random numbers: ChaCha with 8 rounds, keyed by the seed and the stream's name.
///
/// ```
/// use plimsoll_sim::load::random::Stream;
/// let (mut a, mut b) = (Stream::new(7, "arrivals"), Stream::new(7, "arrivals"));
/// assert_eq!(a.word(), b.word());
/// assert_ne!(a.word(), Stream::new(7, "prompts").word());
/// ```
#[derive(Clone, Debug)]
pub struct Stream {
    words: ChaCha8Rng,
}

impl Stream {
    /// Opens a stream. The key is the seed, little end first, and the first 24 bytes of the name.
    pub fn new(seed: u64, name: &str) -> Self {
        Stream::numbered(seed, name, 0)
    }

    /// Opens one of many streams of a name.
    pub fn numbered(seed: u64, name: &str, number: u64) -> Self {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&seed.to_le_bytes());
        for (place, byte) in key[8..].iter_mut().zip(name.bytes()) {
            *place = byte;
        }
        let mut words = ChaCha8Rng::from_seed(key);
        words.set_stream(number);
        Stream { words }
    }

    /// Returns the next 64 bits.
    pub fn word(&mut self) -> u64 {
        self.words.next_u64()
    }

    /// Returns a number from 0 on and below 1: the upper 53 bits of a word.
    pub fn unit(&mut self) -> f64 {
        (self.word() >> 11) as f64 * (1.0 / 9_007_199_254_740_992.0)
    }

    /// Returns a number strictly between 0 and 1: the middles of 2^52 equal parts.
    pub fn inner(&mut self) -> f64 {
        ((self.word() >> 12) as f64 + 0.5) * (1.0 / 4_503_599_627_370_496.0)
    }

    /// Returns a whole number below `end`, each equally often up to 2^-64 of them: the word's share of `end`.
    ///
    /// # Panics
    /// When `end` is 0.
    pub fn below(&mut self, end: u64) -> u64 {
        assert!(end > 0, "there is no number below 0");
        ((u128::from(self.word()) * u128::from(end)) >> 64) as u64
    }

    /// Returns an exponential sample of mean 1, by inversion.
    pub fn exponential(&mut self) -> f64 {
        -libm::log(self.inner())
    }

    /// Returns a standard normal sample, by inversion ([`normal_quantile`]): one word a sample.
    pub fn normal(&mut self) -> f64 {
        normal_quantile(self.inner())
    }

    /// Returns a gamma sample of scale 1, by rejection after Marsaglia and Tsang, "A simple method for generating gamma
    /// variables", ACM TOMS 26(3), 2000; shapes below 1 by their boost with a power of a uniform number.
    pub fn gamma(&mut self, shape: f64) -> f64 {
        if shape < 1.0 {
            let boost = libm::pow(self.inner(), 1.0 / shape);
            return boost * self.gamma(shape + 1.0);
        }
        let d = shape - 1.0 / 3.0;
        let c = 1.0 / libm::sqrt(9.0 * d);
        loop {
            let x = self.normal();
            let root = 1.0 + c * x;
            if root <= 0.0 {
                continue;
            }
            let v = root * root * root;
            if libm::log(self.inner()) < 0.5 * x * x + d - d * v + d * libm::log(v) {
                return d * v;
            }
        }
    }

    /// Returns a Weibull sample of scale 1, by inversion.
    pub fn weibull(&mut self, shape: f64) -> f64 {
        libm::pow(self.exponential(), 1.0 / shape)
    }
}

/// Returns where a standard normal variable's distribution function reaches `p`, exact to about 16 digits: Wichura's
/// algorithm AS 241 (PPND16), Applied Statistics 37(3), 1988.
pub fn normal_quantile(p: f64) -> f64 {
    let q = p - 0.5;
    if q.abs() <= 0.425 {
        let r = 0.180_625 - q * q;
        return q * polynomial(&MIDDLE[0], r) / polynomial(&MIDDLE[1], r);
    }
    let tail = if q < 0.0 { p } else { 1.0 - p };
    let r = libm::sqrt(-libm::log(tail));
    let x = if r <= 5.0 {
        polynomial(&SIDE[0], r - 1.6) / polynomial(&SIDE[1], r - 1.6)
    } else {
        polynomial(&FAR[0], r - 5.0) / polynomial(&FAR[1], r - 5.0)
    };
    if q < 0.0 { -x } else { x }
}

/// Adds up powers of `x`, the constant first in `terms`.
fn polynomial(terms: &[f64; 8], x: f64) -> f64 {
    terms.iter().rev().fold(0.0, |sum, term| sum * x + term)
}

/// AS 241 within 0.425 of the middle: numerator and denominator.
const MIDDLE: [[f64; 8]; 2] = [
    [
        3.387_132_872_796_366_5,
        1.331_416_678_917_843_8e2,
        1.971_590_950_306_551_3e3,
        1.373_169_376_550_946e4,
        4.592_195_393_154_987e4,
        6.726_577_092_700_87e4,
        3.343_057_558_358_813e4,
        2.509_080_928_730_122_7e3,
    ],
    [
        1.0,
        4.231_333_070_160_091e1,
        6.871_870_074_920_579e2,
        5.394_196_021_424_751e3,
        2.121_379_430_158_66e4,
        3.930_789_580_009_271e4,
        2.872_908_573_572_194_3e4,
        5.226_495_278_852_854e3,
    ],
];

/// AS 241 further out, down to tails of e^-25.
const SIDE: [[f64; 8]; 2] = [
    [
        1.423_437_110_749_683_5,
        4.630_337_846_156_546,
        5.769_497_221_460_691,
        3.647_848_324_763_204_5,
        1.270_458_252_452_368_4,
        2.417_807_251_774_506e-1,
        2.272_384_498_926_918_4e-2,
        7.745_450_142_783_414e-4,
    ],
    [
        1.0,
        2.053_191_626_637_759,
        1.676_384_830_183_803_8,
        6.897_673_349_851e-1,
        1.481_039_764_274_800_8e-1,
        1.519_866_656_361_645_7e-2,
        5.475_938_084_995_345e-4,
        1.050_750_071_644_416_9e-9,
    ],
];

/// AS 241 beyond.
const FAR: [[f64; 8]; 2] = [
    [
        6.657_904_643_501_103,
        5.463_784_911_164_114,
        1.784_826_539_917_291_3,
        2.965_605_718_285_048_7e-1,
        2.653_218_952_657_612_4e-2,
        1.242_660_947_388_078_4e-3,
        2.711_555_568_743_487_6e-5,
        2.010_334_399_292_288_1e-7,
    ],
    [
        1.0,
        5.998_322_065_558_88e-1,
        1.369_298_809_227_358e-1,
        1.487_536_129_085_061_5e-2,
        7.868_691_311_456_133e-4,
        1.846_318_317_510_054_8e-5,
        1.421_511_758_316_446e-7,
        2.044_263_103_389_939_8e-15,
    ],
];

/// Whole numbers that are drawn with given weights: their running sums, searched.
#[derive(Clone, Debug, PartialEq)]
pub struct Weighted {
    /// Running sums of the weights.
    sums: Vec<f64>,
}

impl Weighted {
    /// Takes weights; `None` when there is none, one is negative or not finite, or all are zero.
    pub fn new(weights: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut sums = Vec::new();
        let mut sum = 0.0;
        for weight in weights {
            if !(weight.is_finite() && weight >= 0.0) {
                return None;
            }
            sum += weight;
            sums.push(sum);
        }
        (sum > 0.0 && sum.is_finite()).then_some(Weighted { sums })
    }

    /// Weighs the ranks 1 to `count` by rank^-exponent; the rank 1 is number 0.
    pub fn zipf(count: u32, exponent: f64) -> Option<Self> {
        Weighted::new((1..=count).map(|rank| libm::pow(f64::from(rank), -exponent)))
    }

    /// Returns how many numbers there are.
    pub fn len(&self) -> usize {
        self.sums.len()
    }

    /// Whether there is none; never.
    pub fn is_empty(&self) -> bool {
        self.sums.is_empty()
    }

    /// Returns the number at a share of all weight, from 0 on and below 1.
    pub fn at(&self, share: f64) -> usize {
        let aim = share * self.sums.last().copied().unwrap_or(0.0);
        self.sums.partition_point(|&sum| sum <= aim).min(self.sums.len() - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_words_never_change() {
        // Golden: a change here changes every simulation with a seed.
        let mut stream = Stream::new(0, "arrivals");
        let words: Vec<u64> = (0..3).map(|_| stream.word()).collect();
        assert_eq!(words, [3_545_627_446_203_568_862, 16_121_815_729_913_029_741, 16_046_718_740_898_401_123]);
        let mut stream = Stream::numbered(42, "prompts", 1);
        let draws = [
            stream.unit(),
            stream.inner(),
            stream.exponential(),
            stream.normal(),
            stream.gamma(0.25),
            stream.gamma(4.0),
            stream.weibull(0.7),
        ];
        assert_eq!(
            draws.map(f64::to_bits),
            [
                4_602_791_148_848_103_645,
                4_602_815_728_638_548_079,
                4_604_339_370_640_448_826,
                4_591_003_622_438_677_172,
                4_549_026_493_287_988_021,
                4_616_319_390_727_935_711,
                4_617_268_635_792_691_826,
            ]
        );
        assert!(stream.below(10) < 10);
    }

    #[test]
    fn quantiles_of_the_normal_distribution() {
        for (p, x) in [
            (0.5, 0.0),
            (0.99, 2.326_347_874_040_840_8),
            (0.95, 1.644_853_626_951_472_2),
            (0.75, 0.674_489_750_196_081_7),
            (0.001, -3.090_232_306_167_813),
            (1e-12, -7.034_483_825_301_132),
            (0.9999, 3.719_016_485_455_709),
        ] {
            let found = normal_quantile(p);
            assert!((found - x).abs() < 1e-13, "{p}: {found} instead of {x}");
        }
    }

    /// Mean and variance of many draws, with the tolerance of five standard errors of each.
    fn moments(name: &str, mean: f64, variance: f64, kurtosis: f64, mut draw: impl FnMut(&mut Stream) -> f64) {
        const COUNT: f64 = 200_000.0;
        let mut stream = Stream::new(1, name);
        let draws: Vec<f64> = (0..COUNT as usize).map(|_| draw(&mut stream)).collect();
        let found = draws.iter().sum::<f64>() / COUNT;
        let spread = draws.iter().map(|x| (x - found) * (x - found)).sum::<f64>() / COUNT;
        assert!((found - mean).abs() < 5.0 * libm::sqrt(variance / COUNT), "{name}: mean {found}, not {mean}");
        let error = variance * libm::sqrt((kurtosis - 1.0) / COUNT);
        assert!((spread - variance).abs() < 5.0 * error, "{name}: variance {spread}, not {variance}");
    }

    #[test]
    fn means_and_variances() {
        moments("unit", 0.5, 1.0 / 12.0, 1.8, Stream::unit);
        moments("inner", 0.5, 1.0 / 12.0, 1.8, Stream::inner);
        moments("exponential", 1.0, 1.0, 9.0, Stream::exponential);
        moments("normal", 0.0, 1.0, 3.0, Stream::normal);
        // A gamma variable of shape k: mean k, variance k, kurtosis 3 + 6/k.
        for shape in [0.1, 0.25, 1.0, 4.0, 100.0] {
            moments("gamma", shape, shape, 3.0 + 6.0 / shape, |stream| stream.gamma(shape));
        }
        // Weibull of shape 2: mean Γ(1.5), variance 1 − Γ(1.5)².
        let mean = libm::tgamma(1.5);
        moments("weibull", mean, 1.0 - mean * mean, 3.3, |stream| stream.weibull(2.0));
    }

    #[test]
    fn weights_are_kept_to() {
        let zipf = Weighted::zipf(4, 1.0).unwrap();
        let mut stream = Stream::new(3, "zipf");
        let mut counts = [0_u32; 4];
        for _ in 0..100_000 {
            counts[zipf.at(stream.unit())] += 1;
        }
        for (rank, count) in counts.into_iter().enumerate() {
            let expected = 100_000.0 / (rank as f64 + 1.0) / (25.0 / 12.0);
            assert!(
                (f64::from(count) - expected).abs() < 5.0 * libm::sqrt(expected),
                "{rank}: {count}, not {expected}"
            );
        }
        assert_eq!(Weighted::new([0.0, 0.0]), None);
        assert_eq!(Weighted::new([1.0, f64::NAN]), None);
        assert_eq!(Weighted::new([]), None);
        let odd = Weighted::new([0.0, 1.0, 0.0]).unwrap();
        assert_eq!((odd.at(0.0), odd.at(0.999_999)), (1, 1), "what weighs nothing is never drawn");
    }
}
