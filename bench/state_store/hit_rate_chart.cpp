#include "bench/state_store/hit_rate_chart.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>

namespace krait::bench {
namespace {

constexpr double kPanelWidth = 420, kPanelHeight = 260, kLeft = 50, kTop = 40, kPlotWidth = 340, kPlotHeight = 180;
// Told apart by lightness as well as by hue.
constexpr std::array kColours = {"#b8b8b8", "#6aa9d8", "#d98a29", "#15406b"};

std::string panel(const std::vector<std::uint64_t>& capacities, const HitRates& rates, double x0) {
  double top = 0;
  for (const auto& line : rates.lines) top = std::max(top, *std::ranges::max_element(line.rates));
  top = std::ceil(top * 10) / 10;
  const double step = kPlotWidth / static_cast<double>(capacities.size() - 1);
  const auto y_of = [&](double rate) { return kTop + kPlotHeight * (1 - rate / top); };
  std::string svg = fmt::format(
      "<g transform=\"translate({} 0)\">\n<text x=\"{}\" y=\"22\" font-weight=\"bold\">{}: prompt tokens "
      "found</text>\n",
      x0, kLeft, rates.trace);
  for (int tenth = 0; tenth <= static_cast<int>(std::lround(top * 10)); ++tenth) {
    const double y = y_of(tenth / 10.0);
    svg += fmt::format(
        "<line x1=\"{}\" x2=\"{}\" y1=\"{:.1f}\" y2=\"{:.1f}\" stroke=\"#e4e4e4\"/>"
        "<text x=\"{}\" y=\"{:.1f}\" text-anchor=\"end\">{} %</text>\n",
        kLeft, kLeft + kPlotWidth, y, y, kLeft - 6, y + 4, tenth * 10);
  }
  for (std::size_t i = 0; i < capacities.size(); ++i) {
    svg += fmt::format("<text x=\"{:.1f}\" y=\"{}\" text-anchor=\"middle\">{}</text>\n",
                       kLeft + step * static_cast<double>(i), kTop + kPlotHeight + 18,
                       capacities[i] == 0 ? "no limit" : std::to_string(capacities[i]));
  }
  for (std::size_t l = 0; l < rates.lines.size(); ++l) {
    std::string points;
    for (std::size_t i = 0; i < capacities.size(); ++i)
      points += fmt::format("{:.1f},{:.1f} ", kLeft + step * static_cast<double>(i), y_of(rates.lines[l].rates[i]));
    svg += fmt::format("<polyline points=\"{}\" fill=\"none\" stroke=\"{}\" stroke-width=\"2\"/>\n", points,
                       kColours[l % kColours.size()]);
  }
  svg += fmt::format("<text x=\"{}\" y=\"{}\" text-anchor=\"middle\">states kept</text>\n", kLeft + kPlotWidth / 2,
                     kTop + kPlotHeight + 36);
  return svg + "</g>\n";
}

}  // namespace

std::string hit_rate_chart(const std::vector<std::uint64_t>& capacities, const std::vector<HitRates>& traces) {
  const double width = kPanelWidth * static_cast<double>(traces.size());
  std::string svg = fmt::format(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {} {}\" font-family=\"sans-serif\" font-size=\"12\">\n"
      "<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n",
      width, kPanelHeight + 50);
  for (std::size_t t = 0; t < traces.size(); ++t)
    svg += panel(capacities, traces[t], kPanelWidth * static_cast<double>(t));
  double x = kLeft;
  for (std::size_t l = 0; l < traces.front().lines.size(); ++l) {
    const std::string& name = traces.front().lines[l].policy;
    svg += fmt::format(
        "<line x1=\"{}\" x2=\"{}\" y1=\"286\" y2=\"286\" stroke=\"{}\" stroke-width=\"3\"/>"
        "<text x=\"{}\" y=\"290\">{}</text>\n",
        x, x + 20, kColours[l % kColours.size()], x + 26, name);
    x += 60 + 7.0 * static_cast<double>(name.size());
  }
  return svg + "</svg>\n";
}

}  // namespace krait::bench
