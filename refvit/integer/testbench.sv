// One linear against its vectors: every code, or the first that differs. Specification 2.2, 3.2.
// Put your design in the place of `requantize` and the loop over i. Codes here are signed and have no
// zero point. Where manifest.json says uint8, declare x, or y and expected, without `signed`. Where the
// folder has input0_zero_point, subtract it from each x; where it has zero_point, clip to clamp less it
// and add it to what is clipped (1.5).
//
//   refvit vectors nano_vit --site blocks.0.mlp.fc1 --out v
//   iverilog -g2012 -o tb testbench.sv && vvp tb +dir=v/blocks.0.mlp.fc1
//   refvit vectors --replay v
module testbench;
  parameter ROWS = 65, IN = 48, OUT = 192;  // input0 [.., ROWS, IN], weight [OUT, IN]
  parameter X = 8, W = 8, Y = 8;            // bits of input0, weight and output, by manifest.json
  logic signed [X-1:0] x[0:ROWS*IN-1];
  logic signed [W-1:0] w[0:OUT*IN-1];
  logic signed [31:0] bias[0:OUT-1], multiplier[0:OUT-1], shift[0:OUT-1], clamp[0:1];
  logic signed [Y-1:0] expected[0:ROWS*OUT-1], y[0:ROWS*OUT-1];

  function automatic longint requantize(input int acc, m, n, lo, hi);
    longint product;  // 32 by 24 bits: 56
    product = (64'(acc) * 64'(m) + (64'sd1 <<< (n - 1))) >>> n;
    return product < 64'(lo) ? 64'(lo) : product > 64'(hi) ? 64'(hi) : product;
  endfunction

  string dir;
  int acc, wrong = 0;
  initial begin
    if (!$value$plusargs("dir=%s", dir)) dir = "v/blocks.0.mlp.fc1";
    $readmemh({dir, "/input0.hex"}, x);
    $readmemh({dir, "/weight.hex"}, w);
    $readmemh({dir, "/bias.hex"}, bias);
    $readmemh({dir, "/multiplier.hex"}, multiplier);
    $readmemh({dir, "/shift.hex"}, shift);
    $readmemh({dir, "/clamp.hex"}, clamp);
    $readmemh({dir, "/expected.hex"}, expected);
    for (int k = 0; k < ROWS * OUT; k++) begin
      acc = bias[k%OUT];
      for (int i = 0; i < IN; i++) acc += int'(x[k/OUT*IN+i]) * int'(w[k%OUT*IN+i]);
      y[k] = Y'(requantize(acc, multiplier[k%OUT], shift[k%OUT], clamp[0], clamp[1]));
      if (y[k] !== expected[k]) begin
        wrong++;
        if (wrong == 1) $display("code %0d: expected %0d, found %0d", k, expected[k], y[k]);
      end
    end
    $writememh({dir, "/output.hex"}, y);
    $display("%0d of %0d codes differ", wrong, ROWS * OUT);
    $finish;
  end
endmodule
