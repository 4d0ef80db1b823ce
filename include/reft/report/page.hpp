#pragma once

#include <algorithm>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "reft/report/svg_chart.hpp"

namespace reft {

/// One HTML page that needs nothing else: no script, no font, no picture of another place. Light or dark as the reader's
/// system is; columns fold on narrow screens. Every text given to it is escaped, except drawings and `add_html`.
class ReportPage {
 public:
  ReportPage(std::string_view title, std::string_view subtitle) : title_(title) {
    body_ = fmt::format("<header><h1>{}</h1><p>{}</p></header>\n", html_escape(title), html_escape(subtitle));
  }

  /// Figures that are read first: pairs of a name and a number with its unit.
  void add_figures(const std::vector<std::pair<std::string, std::string>>& figures) {
    body_ += "<dl class=\"figures\">";
    for (const auto& [name, value] : figures)
      body_ += fmt::format("<div><dt>{}</dt><dd>{}</dd></div>", html_escape(name), html_escape(value));
    body_ += "</dl>\n";
  }

  /// Drawings side by side, each an SVG element.
  void add_drawings(const std::vector<std::string>& drawings) {
    body_ += "<div class=\"drawings\">";
    for (const std::string& drawing : drawings) body_ += fmt::format("<figure>{}</figure>\n", drawing);
    body_ += "</div>\n";
  }

  void add_heading(std::string_view text) { body_ += fmt::format("<h2>{}</h2>\n", html_escape(text)); }

  /// @param numeric  columns, from 0, whose cells stand at the right.
  void add_table(const std::vector<std::string>& head, const std::vector<std::vector<std::string>>& rows,
                 const std::vector<std::size_t>& numeric = {}) {
    const auto cell = [&](std::string_view tag, std::size_t column, const std::string& text) {
      const bool right = std::find(numeric.begin(), numeric.end(), column) != numeric.end();
      return fmt::format("<{}{}>{}</{}>", tag, right ? " class=\"number\"" : "", html_escape(text), tag);
    };
    body_ += "<div class=\"table\"><table><thead><tr>";
    for (std::size_t i = 0; i < head.size(); ++i) body_ += cell("th", i, head[i]);
    body_ += "</tr></thead><tbody>\n";
    for (const auto& row : rows) {
      body_ += "<tr>";
      for (std::size_t i = 0; i < row.size(); ++i) body_ += cell("td", i, row[i]);
      body_ += "</tr>\n";
    }
    body_ += "</tbody></table></div>\n";
  }

  /// Markup as it is: what comes from outside must have gone through `html_escape`.
  void add_html(std::string_view html) { body_ += html; }

  std::string html() const {
    return fmt::format(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" "
        "content=\"width=device-width,initial-scale=1\"><meta name=\"color-scheme\" content=\"light dark\">"
        "<title>{}</title>\n<style>{}\n{}</style></head>\n<body><main>\n{}</main></body></html>\n",
        html_escape(title_), kChartStyle, kStyle, body_);
  }

 private:
  static constexpr std::string_view kStyle =
      ":root{color-scheme:light dark;--page:#f4f6f8}@media(prefers-color-scheme:dark){:root{--page:#101418}}"
      "*{box-sizing:border-box}body{margin:0;background:var(--page);color:var(--text);font:15px/1.5 system-ui,sans-serif}"
      "main{max-width:1120px;margin:0 auto;padding:32px 20px 56px}header p{color:var(--muted);margin:2px 0 0}"
      "h1{font-size:24px;line-height:1.25;margin:0;overflow-wrap:anywhere}h2{font-size:17px;margin:36px 0 12px}"
      "figure,.figures div,.table,.sample{background:var(--card);border:1px solid var(--grid);border-radius:10px}"
      ".figures{display:grid;grid-template-columns:repeat(auto-fit,minmax(148px,1fr));gap:12px;margin:24px 0}"
      ".figures div{padding:12px 14px}.figures dt{color:var(--muted);font-size:12.5px}"
      ".figures dd{margin:2px 0 0;font-size:19px;font-weight:600;font-variant-numeric:tabular-nums;white-space:nowrap}"
      ".drawings{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,420px),1fr));gap:14px}"
      "figure{margin:0;padding:14px 14px 8px}.table{overflow:auto;max-height:460px}"
      "table{border-collapse:collapse;width:100%;font-size:13.5px}th,td{padding:7px 14px;text-align:left;vertical-align:top}"
      "th{position:sticky;top:0;background:var(--card);color:var(--muted);font-weight:500;border-bottom:1px solid var(--grid)}"
      "tbody tr+tr td{border-top:1px solid "
      "var(--grid)}td{overflow-wrap:anywhere}.number{text-align:right;font-variant-numeric:tabular-nums}"
      ".sample{padding:14px 16px;margin:0 0 12px}.sample "
      "p{margin:0;white-space:pre-wrap;overflow-wrap:anywhere;max-height:13em;overflow:auto}"
      ".sample "
      ".prompt{font-weight:600;margin-bottom:10px}.answers{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,240px),1fr));"
      "gap:8px 22px}"
      ".answers small{color:var(--muted)}.same{color:var(--series-2)}footer{color:var(--muted);font-size:12.5px;margin-top:36px}";

  std::string title_, body_;
};

}  // namespace reft
