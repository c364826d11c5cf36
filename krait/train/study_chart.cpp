// The picture of a study: bars, drawn as SVG text.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "krait/train/study_report.h"

namespace krait::train {
namespace {

constexpr double kLeft = 56, kTop = 40, kPlotHeight = 200, kBar = 34, kBetweenGroups = 40, kLegendLine = 18;
constexpr int kLines = 5;  // across, beside that of zero
// Told apart by lightness as well as by hue.
constexpr std::array kColours = {"#15406b", "#d98a29", "#6aa9d8", "#b8b8b8", "#7a3e7e", "#8fb573"};

// Text of a configuration may have any letters in it.
std::string escaped(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (c == '<') {
      out += "&lt;";
    } else if (c == '&') {
      out += "&amp;";
    } else {
      out += c;
    }
  }
  return out;
}

double top_of(const std::vector<StudyColumn>& columns) {
  double most = 0.0;
  for (const StudyColumn& column : columns) {
    if (!column.is_loss) most = std::max(most, 1.0);
    for (const auto& spread : column.of_variants) {
      if (spread && std::isfinite(spread->most)) most = std::max(most, spread->most);
    }
  }
  return most > 0.0 ? most : 1.0;
}

}  // namespace

std::string study_chart(std::string_view title, const std::vector<std::string>& variants,
                        const std::vector<StudyNumbers>& runs) {
  const std::vector<StudyColumn> columns = study_columns(variants, runs);
  const bool is_loss = !columns.empty() && columns.front().is_loss;
  const double top = top_of(columns), group = kBar * static_cast<double>(variants.size()) + kBetweenGroups;
  const double plot = std::max(group * static_cast<double>(columns.size()), 240.0), bottom = kTop + kPlotHeight;
  const double width = kLeft + plot + 20;
  const double height = bottom + 40 + kLegendLine * static_cast<double>(variants.size());
  const auto y_of = [&](double value) { return bottom - kPlotHeight * std::clamp(value / top, 0.0, 1.0); };
  std::string svg = fmt::format(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {:.0f} {:.0f}\" font-family=\"sans-serif\" "
      "font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
      "<text x=\"{}\" y=\"22\" font-weight=\"bold\">{}: {}</text>\n",
      width, height, kLeft, escaped(title), is_loss ? "loss" : "answers right");
  for (int line = 0; line <= kLines; ++line) {
    const double value = top * line / kLines, y = y_of(value);
    svg += fmt::format(
        "<line x1=\"{}\" x2=\"{:.1f}\" y1=\"{:.1f}\" y2=\"{:.1f}\" stroke=\"#e4e4e4\"/>"
        "<text x=\"{}\" y=\"{:.1f}\" text-anchor=\"end\">{}</text>\n",
        kLeft, kLeft + plot, y, y, kLeft - 6, y + 4,
        is_loss ? fmt::format("{:.2f}", value) : fmt::format("{:.0f} %", 100 * value));
  }
  for (std::size_t c = 0; c < columns.size(); ++c) {
    const double x0 = kLeft + group * static_cast<double>(c) + kBetweenGroups / 2;
    for (std::size_t v = 0; v < variants.size(); ++v) {
      const auto& spread = columns[c].of_variants[v];
      if (!spread) continue;
      const double x = x0 + kBar * static_cast<double>(v), y = y_of(spread->mean);
      svg += fmt::format("<rect x=\"{:.1f}\" y=\"{:.1f}\" width=\"{}\" height=\"{:.1f}\" fill=\"{}\"/>\n", x + 2, y,
                         kBar - 4, bottom - y, kColours[v % kColours.size()]);
      for (std::size_t i = 0; i < spread->values.size(); ++i) {
        const double share = (static_cast<double>(i) + 1.0) / (static_cast<double>(spread->values.size()) + 1.0);
        svg += fmt::format("<circle cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"3\" fill=\"white\" stroke=\"black\"/>\n",
                           x + 2 + (kBar - 4) * share, y_of(spread->values[i]));
      }
    }
    svg += fmt::format("<text x=\"{:.1f}\" y=\"{}\" text-anchor=\"middle\">{}</text>\n",
                       x0 + kBar * static_cast<double>(variants.size()) / 2, bottom + 18, escaped(columns[c].name));
  }
  for (std::size_t v = 0; v < variants.size(); ++v) {
    const double y = bottom + 36 + kLegendLine * static_cast<double>(v);
    svg += fmt::format(
        "<rect x=\"{}\" y=\"{:.0f}\" width=\"20\" height=\"10\" fill=\"{}\"/><text x=\"{}\" y=\"{:.0f}\">{}</text>\n",
        kLeft, y, kColours[v % kColours.size()], kLeft + 26, y + 9, escaped(variants[v]));
  }
  return svg + "</svg>\n";
}

}  // namespace krait::train
