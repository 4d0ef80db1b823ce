#include "reft/report/html.hpp"

#include <limits>

#include "support/catch.hpp"

TEST_CASE("what means something in HTML is escaped, other text is kept") {
  CHECK(reft::html_escape("<script>alert(\"a\" & 'b')</script>") == "&lt;script&gt;alert(&quot;a&quot; &amp; &#39;b&#39;)&lt;/script&gt;");
  CHECK(reft::html_escape("Grüße, 你好\n\tx") == "Grüße, 你好\n\tx");
  CHECK(reft::html_escape(std::string("a\0b\x1b[31mc\x7f", 9)) == "ab[31mc");
}

TEST_CASE("numbers are written short") {
  CHECK(reft::grouped_number(7) == "7");
  CHECK(reft::grouped_number(1591632) == "1,591,632");
  CHECK(reft::grouped_number(-100000) == "-100,000");
  CHECK(reft::short_number(12345) == "12.3k");
  CHECK(reft::short_number(999.9) == "1k");
  CHECK(reft::short_number(-2.5e9) == "-2.5G");
  CHECK(reft::short_number(0.0009) == "0.0009");
  CHECK(reft::short_number(0) == "0");
  CHECK(reft::short_number(std::numeric_limits<double>::quiet_NaN()) == "–");
  CHECK(reft::bytes_text(512) == "512 B");
  CHECK(reft::bytes_text(1'500'000'000) == "1.5 GB");
}
