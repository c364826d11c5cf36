// The losses of a run as a picture of characters: for a terminal, while it trains.
#pragma once

#include <string>
#include <vector>

namespace krait::cli {

class LossCurve {
 public:
  void add(double step, double loss);
  // `columns` wide and `rows` high, each row ended; empty before the second point. Points of one column are averaged;
  // two dots a character across and four up (Braille patterns).
  std::string draw(int columns, int rows) const;

 private:
  struct Point {
    double step, loss;
  };
  std::vector<Point> points_;
};

}  // namespace krait::cli
