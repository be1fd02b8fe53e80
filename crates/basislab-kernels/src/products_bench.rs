
use crate::chunks::*; use crate::gemm::*; use std::time::Instant;
#[allow(unsafe_code)] fn now() -> f64 { unsafe extern "C" { fn clock_gettime(id: i32, t: *mut [i64; 2]) -> i32; } let mut t = [0; 2]; unsafe { clock_gettime(3, &mut t) }; t[0] as f64 + t[1] as f64 * 1e-9 }
fn gf(flops: f64, mut f: impl FnMut()) -> f64 { f(); let mut best = f64::MAX; for _ in 0..9 { let reps = (3e7 / flops).max(1.0) as usize; let t = now(); for _ in 0..reps { f(); } best = best.min((now() - t) / reps as f64); } flops / best / 1e9 }
fn old(a: (&[f32], usize, usize), b: (&[f32], usize, usize), m: usize, n: usize, k: usize, out: &mut [f32], stride: usize) {
    #[allow(unsafe_code)] unsafe { gemm::gemm(m,n,k,out.as_mut_ptr(),1,stride as isize,false,a.0.as_ptr(),a.2 as isize,a.1 as isize,b.0.as_ptr(),b.2 as isize,b.1 as isize,1.0,1.0,false,false,false,gemm::Parallelism::None) }
}
#[test] #[ignore]
fn speed() { let only = std::env::var("ONLY").unwrap_or_default();
    let fill = |n: usize| (0..n).map(|i| (i * 7 % 13) as f32 * 0.1 - 0.5).collect::<Vec<f32>>();
    for (m, n, k) in [(512,64,64),(512,192,64),(512,256,64),(512,64,256),(512,384,128),(512,512,128),(512,1024,256),(512,256,1024),(512,2048,512),(512,512,2048)] { if only.contains('w') { break; }
        let (a, b, mut c) = (fill(m*k), fill(k*n), vec![0.0; m*n]); let fl = (2*m*n*k) as f64;
        let o = gf(fl, || old((&a,k,1),(&b,n,1),m,n,k,&mut c,n));
        let p = Packed::new(&[Mat::dense(&b, n)], Precision::F32); let q = Packed::new(&[Mat::dense(&b, n)], Precision::Bf16);
        let f = gf(fl, || multiply(Mat::dense(&a, k), &p, &mut c, n, false, 1.0));
        let h = gf(fl, || multiply(Mat::dense(&a, k), &q, &mut c, n, false, 1.0));
        let pk = gf((k*n) as f64, || { Packed::new(&[Mat::dense(&b, n)], Precision::F32); });
        let pt = gf((k*n) as f64, || { Packed::new(&[Mat::dense(&b, k).transposed()], Precision::F32); });
        let pb = gf((k*n) as f64, || { Packed::new(&[Mat::dense(&b, n)], Precision::Bf16); });
        println!("{m}x{n}x{k}: crate {o:.0} own {f:.0} bf16 {h:.0}; packing Gelem/s {pk:.2} transposed {pt:.2} bf16 {pb:.2}");
    }
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap(); let two = rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap();
    for (m, n, k) in [(64,64,1024),(64,256,1024),(256,64,1024),(64,192,1024),(128,128,1024),(128,512,2048),(512,128,2048),(256,1024,2048),(1024,256,2048),(512,512,2048),(512,2048,1024)] {
        let (x, dy, mut c) = (fill(m*k), fill(k*n), vec![0.0; m*n]); let fl = (2*m*n*k) as f64;
        let rows = if m < 256 { 48 } else { 128 };
        let o = gf(fl, || for r in (0..m).step_by(rows) { let mm = rows.min(m-r); old((&x[r..],1,m),(&dy,n,1),mm,n,k,&mut c[r*n..],n) });
        let mut w = |precision| gf(fl, || weight_gradients(vec![WeightGradient { x: Mat::dense(&x, m), dy: Mat::dense(&dy, n), into: &mut c, scale: 1.0, precision }]));
        let (f, h) = pool.install(|| (w(Precision::F32), w(Precision::Bf16))); let (f2, h2) = if only.contains('1') { (0.0, 0.0) } else { two.install(|| (w(Precision::F32), w(Precision::Bf16))) };
        println!("wgrad {m}x{n} k {k}: crate {o:.0} own {f:.0} bf16 {h:.0}; two threads {f2:.0} bf16 {h2:.0}");
    }
    for (d, dh, end) in [(64,16,32),(64,16,128),(128,32,128),(256,64,128),(256,32,512),(512,64,512)] { if only.contains('w') { break; }
        let (q, kt, v, p) = (fill(512*d), fill(dh*512), fill(512*d), fill(32*512)); let mut s = vec![0.0; 32*512]; let mut mixed = vec![0.0; 512*d]; let pos = end.max(128);
        let fl = (2*32*dh*end) as f64;
        let o = [gf(fl, || old((&q,d,1),(&kt,pos,1),32,end,dh,&mut s,pos)), gf(fl, || old((&p,pos,1),(&v,d,1),32,dh,end,&mut mixed,d)), gf(fl, || old((&p,1,pos),(&q,d,1),end,dh,32,&mut mixed,d))];
        let n = [gf(fl, || matmul(Mat::new(&q,32,dh,d), Mat::new(&kt,dh,end,pos), &mut s,pos,false,1.0)), gf(fl, || matmul(Mat::new(&p,32,end,pos),Mat::new(&v,end,dh,d),&mut mixed,d,false,1.0)), gf(fl, || matmul(Mat::new(&p,32,end,pos).transposed(),Mat::new(&q,32,dh,d),&mut mixed,d,false,1.0))];
        println!("attention d {d} head {dh} keys {end}: crate {:.0?} own {:.0?}", o, n);
    }
}
