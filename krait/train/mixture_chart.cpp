#include "krait/train/mixture_chart.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

namespace krait::train {
namespace {

constexpr double kLeft = 44, kTop = 16, kWide = 520, kHigh = 260, kLegend = 250, kBelow = 40;
// Twelve hues of about one lightness (Okabe and Ito's eight, which people with any colour vision tell apart, and four
// more); further objectives begin again, lighter.
constexpr std::array<const char*, 12> kColours = {"#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00",
                                                  "#f0e442", "#7f7f7f", "#6a51a3", "#8c564b", "#17becf", "#bcbd22"};

std::string escaped(const std::string& text) {
  std::string out;
  for (const char c : text) {
    if (c == '&') {
      out += "&amp;";
    } else if (c == '<') {
      out += "&lt;";
    } else {
      out += c;
    }
  }
  return out;
}

}  // namespace

std::string mixture_chart(std::span<const std::string> names, std::span<const MixtureStretch> stretches,
                          std::int64_t end) {
  if (names.empty() || stretches.empty()) return {};
  const std::int64_t first = stretches.front().step;
  const double span = static_cast<double>(std::max<std::int64_t>(1, end - first));
  const auto across = [&](std::int64_t step) { return kLeft + kWide * static_cast<double>(step - first) / span; };
  const auto up = [&](double share) { return kTop + kHigh * (1.0 - share); };
  const double height = std::max(kTop + kHigh, kTop + 18.0 * static_cast<double>(names.size())) + kBelow;
  std::string svg = fmt::format(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{0:.0f}\" height=\"{1:.0f}\" viewBox=\"0 0 {0:.0f} {1:.0f}\" "
      "font-family=\"sans-serif\" font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n",
      kLeft + kWide + kLegend, height);
  // Shares under each edge, added up objective by objective.
  std::vector<double> under(stretches.size(), 0.0);
  for (std::size_t i = 0; i < names.size(); ++i) {
    std::string top, bottom;
    for (std::size_t s = 0; s < stretches.size(); ++s) {
      const double left = across(stretches[s].step);
      const double right = across(s + 1 < stretches.size() ? stretches[s + 1].step : end);
      const double above = under[s] + stretches[s].shares[i];
      top += fmt::format("{:.2f},{:.2f} {:.2f},{:.2f} ", left, up(above), right, up(above));
      bottom.insert(0, fmt::format("{:.2f},{:.2f} {:.2f},{:.2f} ", right, up(under[s]), left, up(under[s])));
      under[s] = above;
    }
    const char* colour = kColours[i % kColours.size()];
    const double opacity = i < kColours.size() ? 1.0 : 0.5;
    svg += fmt::format("<polygon points=\"{}{}\" fill=\"{}\" fill-opacity=\"{}\"/>\n", top, bottom, colour, opacity);
    const double y = kTop + 18.0 * static_cast<double>(i);
    svg += fmt::format(
        "<rect x=\"{0:.0f}\" y=\"{1:.0f}\" width=\"12\" height=\"12\" fill=\"{2}\" fill-opacity=\"{3}\"/>"
        "<text x=\"{4:.0f}\" y=\"{5:.0f}\">{6} {7:.0f} %</text>\n",
        kLeft + kWide + 12, y, colour, opacity, kLeft + kWide + 30, y + 10, escaped(names[i]),
        100.0 * stretches.back().shares[i]);
  }
  for (const double share : {0.0, 0.5, 1.0}) {
    svg += fmt::format("<text x=\"{:.0f}\" y=\"{:.1f}\" text-anchor=\"end\">{:.0f} %</text>\n", kLeft - 6,
                       up(share) + 4, 100.0 * share);
  }
  svg += fmt::format(
      "<text x=\"{:.0f}\" y=\"{:.0f}\">{}</text><text x=\"{:.0f}\" y=\"{:.0f}\" text-anchor=\"end\">step {}</text>\n"
      "</svg>\n",
      kLeft, kTop + kHigh + 18, first, kLeft + kWide, kTop + kHigh + 18, end);
  return svg;
}

}  // namespace krait::train
