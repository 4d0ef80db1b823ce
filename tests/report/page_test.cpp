#include "reft/report/page.hpp"

#include <regex>

#include "support/catch.hpp"
#include "support/error_text.hpp"

using reft::test::contains;

TEST_CASE("a page escapes every text, needs nothing from elsewhere, and knows light and dark") {
  const std::string evil = "</style><script>x</script>";
  reft::ReportPage page(evil, evil);
  page.add_figures({{evil, evil}});
  page.add_heading(evil);
  page.add_table({evil, "n"}, {{evil, "1"}}, {1});
  page.add_drawings({to_svg(reft::LineChart{.title = evil, .series = {{evil, {{1, 2.0}}}}})});
  const std::string html = page.html();
  CHECK(!contains(html, "<script"));
  CHECK(html.find("</style>") == html.rfind("</style>"));
  CHECK(!std::regex_search(html, std::regex("(src|href)=|url\\(|@import|https?://")));
  CHECK(contains(html, "prefers-color-scheme:dark"));
  CHECK(contains(html, "<td class=\"number\">1</td>"));
}
