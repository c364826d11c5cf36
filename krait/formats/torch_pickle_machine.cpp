#include "krait/formats/torch_pickle_machine.h"

#include <deque>
#include <optional>
#include <set>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <variant>

#include "krait/formats/byte_cursor.h"

namespace krait::formats {
namespace {

// A state dict of 20,000 tensors has a pickle of 4 MB and 240,000 objects. These bounds leave room above it and keep
// a hostile pickle, one byte of which can ask for an object of a hundred bytes, within a quarter of a gigabyte.
constexpr std::size_t kMaximumPickleBytes = std::size_t{64} << 20;
constexpr std::size_t kMaximumObjects = std::size_t{1} << 20;
constexpr std::size_t kMaximumDimensions = 64;

struct Object;
struct None {};
struct Mark {};
struct OrderedDictClass {};
struct RebuildTensor {};
struct RebuildParameter {};
struct StorageClass {
  DType dtype;
};
// Objects belong to the machine, so that cycles (a list that holds itself) are harmless.
using Value = std::variant<None, Mark, bool, std::int64_t, double, OrderedDictClass, RebuildTensor, RebuildParameter,
                           StorageClass, Object*>;

struct Text {
  std::string_view text;  // within the pickle
};
struct Tuple {
  std::vector<Value> items;
};
struct List {
  std::vector<Value> items;
};
struct Dict {
  std::vector<std::pair<Value, Value>> items;  // a key may come twice: the caller looks at names
};
struct Storage {
  DType dtype;
  std::string_view key;
  std::int64_t elements;
};
struct Object {
  std::variant<Text, Tuple, List, Dict, Storage, PickledTensor> content;
};

template <class T>
T* as(const Value& value) {
  Object* const* object = std::get_if<Object*>(&value);
  return object == nullptr ? nullptr : std::get_if<T>(&(*object)->content);
}

std::string_view kind_of(const Value& value) {
  if (std::holds_alternative<None>(value)) return "None";
  if (std::holds_alternative<bool>(value)) return "a boolean";
  if (std::holds_alternative<std::int64_t>(value)) return "an integer";
  if (std::holds_alternative<double>(value)) return "a float";
  if (as<Text>(value) != nullptr) return "text";
  if (as<Tuple>(value) != nullptr) return "a tuple";
  if (as<List>(value) != nullptr) return "a list";
  if (as<Dict>(value) != nullptr) return "a dict";
  if (as<Storage>(value) != nullptr) return "a storage";
  if (as<PickledTensor>(value) != nullptr) return "a tensor";
  return "a class or function";
}

constexpr std::pair<std::string_view, DType> kStorageClasses[] = {
    {"DoubleStorage", DType::kF64}, {"FloatStorage", DType::kF32},     {"HalfStorage", DType::kF16},
    {"LongStorage", DType::kI64},   {"BFloat16Storage", DType::kBF16}, {"IntStorage", DType::kI32},
    {"ShortStorage", DType::kI16},  {"CharStorage", DType::kI8},       {"ByteStorage", DType::kU8},
    {"BoolStorage", DType::kBool}};

class Machine {
 public:
  Machine(std::span<const std::byte> pickle, const std::string& origin) : cursor_(pickle), origin_(origin) {}

  // Runs until STOP; the value on top of the stack is the result.
  Result<Value> run();

 private:
  template <class... Args>
  std::unexpected<Error> wrong(fmt::format_string<Args...> format, Args&&... args) const {
    return fail(ErrorCode::kCorrupt, "[torch] pickle at byte {}: {} ({})", at_,
                fmt::format(format, std::forward<Args>(args)...), origin_);
  }
  std::unexpected<Error> cut_short() const { return wrong("ends in the middle of an instruction"); }

  Result<void> step(std::uint8_t opcode);
  Result<void> push(Value value);
  Result<Value> pop();
  // The values above the topmost mark, which goes too.
  Result<std::vector<Value>> pop_to_mark();
  Result<void> push_tuple_of(std::size_t count);
  template <class Content>
  Result<void> push_object(Content content);
  template <class Length>
  Result<void> push_text();
  template <class Stored>
  Result<void> push_integer();
  Result<void> push_long();
  Result<void> push_float();

  Result<void> memoize(std::uint64_t key);
  Result<void> recall(std::uint64_t key);
  template <class Key>
  Result<void> with_key(Result<void> (Machine::*action)(std::uint64_t));

  Result<std::string_view> line();
  Result<void> push_global(std::string_view module, std::string_view name);
  Result<void> reduce();
  Result<void> rebuild_tensor(const std::vector<Value>& arguments);
  Result<void> persistent_id();
  Result<void> set_items(std::vector<Value> keys_and_values);
  Result<void> append(std::vector<Value> values);

  ByteCursor cursor_;
  std::size_t at_ = 0;  // of the instruction that runs
  const std::string& origin_;
  std::vector<Value> stack_;
  std::unordered_map<std::uint64_t, Value> memo_;
  std::deque<Object> objects_;
};

Result<Value> Machine::run() {
  while (true) {
    at_ = cursor_.position();
    const auto opcode = cursor_.read<std::uint8_t>();
    if (!opcode) return wrong("ends without STOP");
    if (*opcode == '.') return pop();
    KRAIT_TRY(step(*opcode));
  }
}

Result<void> Machine::step(std::uint8_t opcode) {
  switch (opcode) {
    case 0x80: {  // PROTO
      const auto protocol = cursor_.read<std::uint8_t>();
      if (!protocol) return cut_short();
      if (*protocol < 2 || *protocol > 5) return wrong("protocol {} is none of 2 to 5", *protocol);
      return {};
    }
    case 0x95:  // FRAME: a hint for readers of streams
      if (!cursor_.read<std::uint64_t>()) return cut_short();
      return {};
    case 'N': return push(None{});
    case 0x88: return push(true);
    case 0x89: return push(false);
    case 'J': return push_integer<std::int32_t>();
    case 'K': return push_integer<std::uint8_t>();
    case 'M': return push_integer<std::uint16_t>();
    case 0x8a: return push_long();
    case 'G': return push_float();
    case 'X': return push_text<std::uint32_t>();
    case 0x8c: return push_text<std::uint8_t>();
    case 0x8d: return push_text<std::uint64_t>();
    case '(': return push(Mark{});
    case ')': return push_object(Tuple{});
    case 0x85: return push_tuple_of(1);
    case 0x86: return push_tuple_of(2);
    case 0x87: return push_tuple_of(3);
    case 't': {  // TUPLE
      KRAIT_ASSIGN(auto items, pop_to_mark());
      return push_object(Tuple{std::move(items)});
    }
    case ']': return push_object(List{});
    case '}': return push_object(Dict{});
    case 'a': {  // APPEND
      KRAIT_ASSIGN(const Value value, pop());
      return append({value});
    }
    case 'e': {  // APPENDS
      KRAIT_ASSIGN(auto values, pop_to_mark());
      return append(std::move(values));
    }
    case 's': {  // SETITEM
      KRAIT_ASSIGN(const Value value, pop());
      KRAIT_ASSIGN(const Value key, pop());
      return set_items({key, value});
    }
    case 'u': {  // SETITEMS
      KRAIT_ASSIGN(auto values, pop_to_mark());
      return set_items(std::move(values));
    }
    case 'q': return with_key<std::uint8_t>(&Machine::memoize);
    case 'r': return with_key<std::uint32_t>(&Machine::memoize);
    case 0x94: return memoize(memo_.size());
    case 'h': return with_key<std::uint8_t>(&Machine::recall);
    case 'j': return with_key<std::uint32_t>(&Machine::recall);
    case 'c': {  // GLOBAL
      KRAIT_ASSIGN(const std::string_view module, line());
      KRAIT_ASSIGN(const std::string_view name, line());
      return push_global(module, name);
    }
    case 0x93: {  // STACK_GLOBAL
      KRAIT_ASSIGN(const Value name, pop());
      KRAIT_ASSIGN(const Value module, pop());
      if (as<Text>(name) == nullptr || as<Text>(module) == nullptr) return wrong("a global that is not named by text");
      return push_global(as<Text>(module)->text, as<Text>(name)->text);
    }
    case 'R': return reduce();
    case 'Q': return persistent_id();
    case 'b': {  // BUILD: attributes of the object below. A state dict has _metadata, versions of its modules.
      KRAIT_ASSIGN(const Value attributes, pop());
      if (stack_.empty() || as<Dict>(stack_.back()) == nullptr || as<Dict>(attributes) == nullptr) {
        return wrong("attributes are set on something other than a dict");
      }
      return {};
    }
    default: break;
  }
  return fail(ErrorCode::kUnsupported, "[torch] pickle at byte {}: opcode 0x{:02x} is not one a state dict needs ({})",
              at_, opcode, origin_);
}

Result<void> Machine::push(Value value) {
  if (stack_.size() == kMaximumObjects) return wrong("more than {} values on the stack", kMaximumObjects);
  stack_.push_back(value);
  return {};
}

Result<Value> Machine::pop() {
  if (stack_.empty() || std::holds_alternative<Mark>(stack_.back())) return wrong("takes a value from an empty stack");
  const Value value = stack_.back();
  stack_.pop_back();
  return value;
}

Result<std::vector<Value>> Machine::pop_to_mark() {
  std::size_t mark = stack_.size();
  while (mark > 0 && !std::holds_alternative<Mark>(stack_[mark - 1])) --mark;
  if (mark == 0) return wrong("no mark on the stack");
  std::vector<Value> values(stack_.begin() + static_cast<std::ptrdiff_t>(mark), stack_.end());
  stack_.resize(mark - 1);
  return values;
}

template <class Content>
Result<void> Machine::push_object(Content content) {
  if (objects_.size() == kMaximumObjects) return wrong("more than {} objects", kMaximumObjects);
  return push(&objects_.emplace_back(Object{std::move(content)}));
}

Result<void> Machine::push_tuple_of(std::size_t count) {
  std::vector<Value> items(count);
  for (std::size_t i = count; i > 0; --i) {
    KRAIT_ASSIGN(items[i - 1], pop());
  }
  return push_object(Tuple{std::move(items)});
}

template <class Length>
Result<void> Machine::push_text() {
  const auto length = cursor_.read<Length>();
  const auto text = length ? cursor_.take_text(*length) : std::nullopt;
  if (!text) return cut_short();
  return push_object(Text{*text});
}

template <class Stored>
Result<void> Machine::push_integer() {
  const auto value = cursor_.read<Stored>();
  if (!value) return cut_short();
  return push(static_cast<std::int64_t>(*value));
}

// LONG1: a length in bytes, then an integer in two's complement, little-endian.
Result<void> Machine::push_long() {
  const auto length = cursor_.read<std::uint8_t>();
  const auto bytes = length ? cursor_.take(*length) : std::nullopt;
  if (!bytes) return cut_short();
  if (bytes->size() > sizeof(std::int64_t)) return wrong("an integer of {} bytes does not fit 64 bits", bytes->size());
  std::uint64_t value = 0;
  for (std::size_t i = 0; i < bytes->size(); ++i) value |= static_cast<std::uint64_t>((*bytes)[i]) << (8 * i);
  const std::size_t bits = 8 * bytes->size();
  const bool negative = bits > 0 && ((value >> (bits - 1)) & 1U) != 0;
  if (negative && bits < 64) value |= ~std::uint64_t{0} << bits;
  return push(static_cast<std::int64_t>(value));
}

// BINFLOAT is the one value of the format that is big-endian.
Result<void> Machine::push_float() {
  const auto value = cursor_.read<std::uint64_t>();
  if (!value) return cut_short();
  return push(std::bit_cast<double>(__builtin_bswap64(*value)));
}

Result<void> Machine::memoize(std::uint64_t key) {
  if (stack_.empty() || std::holds_alternative<Mark>(stack_.back())) return wrong("nothing there to remember");
  if (memo_.size() == kMaximumObjects) return wrong("more than {} remembered values", kMaximumObjects);
  memo_.insert_or_assign(key, stack_.back());
  return {};
}

Result<void> Machine::recall(std::uint64_t key) {
  const auto found = memo_.find(key);
  if (found == memo_.end()) return wrong("recalls value {}, which was never remembered", key);
  return push(found->second);
}

template <class Key>
Result<void> Machine::with_key(Result<void> (Machine::*action)(std::uint64_t)) {
  const auto key = cursor_.read<Key>();
  if (!key) return cut_short();
  return (this->*action)(*key);
}

Result<std::string_view> Machine::line() {
  ByteCursor ahead = cursor_;
  std::uint64_t length = 0;
  for (auto c = ahead.read<char>(); c != '\n'; c = ahead.read<char>(), ++length) {
    if (!c) return cut_short();
  }
  const auto text = *cursor_.take_text(length);
  cursor_.take(1);
  return text;
}

Result<void> Machine::push_global(std::string_view module, std::string_view name) {
  if (module == "collections" && name == "OrderedDict") return push(OrderedDictClass{});
  if (module == "torch._utils" && name == "_rebuild_tensor_v2") return push(RebuildTensor{});
  if (module == "torch._utils" && name == "_rebuild_parameter") return push(RebuildParameter{});
  if (module == "torch") {
    for (const auto& [known, dtype] : kStorageClasses) {
      if (known == name) return push(StorageClass{dtype});
    }
  }
  return fail(ErrorCode::kUnsupported,
              "[torch] pickle asks for {:.200}.{:.200}: refused, a state dict needs tensors and dicts only ({})",
              module, name, origin_);
}

Result<void> Machine::reduce() {
  KRAIT_ASSIGN(const Value arguments_value, pop());
  KRAIT_ASSIGN(const Value callable, pop());
  const Tuple* arguments = as<Tuple>(arguments_value);
  if (arguments == nullptr) return wrong("a call with {} in place of arguments", kind_of(arguments_value));
  if (std::holds_alternative<OrderedDictClass>(callable)) {
    if (!arguments->items.empty()) return wrong("an OrderedDict made with arguments");
    return push_object(Dict{});
  }
  if (std::holds_alternative<RebuildTensor>(callable)) return rebuild_tensor(arguments->items);
  if (std::holds_alternative<RebuildParameter>(callable)) {
    // (tensor, requires_grad, backward_hooks)
    if (arguments->items.empty() || as<PickledTensor>(arguments->items[0]) == nullptr) {
      return wrong("a parameter made without a tensor");
    }
    return push(arguments->items[0]);
  }
  return wrong("{} is called, which only tensors and dicts may be", kind_of(callable));
}

Result<void> Machine::rebuild_tensor(const std::vector<Value>& arguments) {
  // (storage, storage_offset, size, stride, requires_grad, backward_hooks[, metadata]); the last do not concern us.
  if (arguments.size() < 4) return wrong("a tensor made of {} arguments", arguments.size());
  const Storage* storage = as<Storage>(arguments[0]);
  const auto* offset = std::get_if<std::int64_t>(&arguments[1]);
  const Tuple* size = as<Tuple>(arguments[2]);
  const Tuple* stride = as<Tuple>(arguments[3]);
  if (storage == nullptr || offset == nullptr || size == nullptr || stride == nullptr) {
    return wrong("a tensor made of {}, {}, {} and {}", kind_of(arguments[0]), kind_of(arguments[1]),
                 kind_of(arguments[2]), kind_of(arguments[3]));
  }
  if (*offset < 0) return wrong("a tensor at the negative offset {}", *offset);
  if (size->items.size() > kMaximumDimensions || size->items.size() != stride->items.size()) {
    return wrong("a tensor with {} dimensions and {} strides", size->items.size(), stride->items.size());
  }
  PickledTensor tensor;
  tensor.dtype = storage->dtype;
  tensor.storage_key = storage->key;
  tensor.storage_elements = storage->elements;
  tensor.offset = *offset;
  for (const auto& [from, to] : {std::pair(size, &tensor.shape), std::pair(stride, &tensor.strides)}) {
    for (const Value& item : from->items) {
      const auto* number = std::get_if<std::int64_t>(&item);
      if (number == nullptr) return wrong("a tensor with {} among its dimensions", kind_of(item));
      if (*number < 0) return wrong("a tensor with {} among its dimensions", *number);
      to->push_back(*number);
    }
  }
  return push_object(std::move(tensor));
}

// ('storage', class, key, device, number of elements)
Result<void> Machine::persistent_id() {
  KRAIT_ASSIGN(const Value id, pop());
  const Tuple* tuple = as<Tuple>(id);
  if (tuple == nullptr || tuple->items.size() != 5) return wrong("a storage that is not described by five values");
  const Text* kind = as<Text>(tuple->items[0]);
  const auto* type = std::get_if<StorageClass>(&tuple->items[1]);
  const Text* key = as<Text>(tuple->items[2]);
  const auto* elements = std::get_if<std::int64_t>(&tuple->items[4]);
  if (kind == nullptr || kind->text != "storage" || type == nullptr || key == nullptr || elements == nullptr ||
      *elements < 0) {
    return wrong("a storage described by {}, {}, {}, {} and {}", kind_of(tuple->items[0]), kind_of(tuple->items[1]),
                 kind_of(tuple->items[2]), kind_of(tuple->items[3]), kind_of(tuple->items[4]));
  }
  return push_object(Storage{type->dtype, key->text, *elements});
}

Result<void> Machine::set_items(std::vector<Value> keys_and_values) {
  if (stack_.empty() || as<Dict>(stack_.back()) == nullptr) return wrong("items are set on something not a dict");
  if (keys_and_values.size() % 2 != 0) return wrong("a key without a value");
  auto& items = as<Dict>(stack_.back())->items;
  for (std::size_t i = 0; i < keys_and_values.size(); i += 2) {
    items.emplace_back(keys_and_values[i], keys_and_values[i + 1]);
  }
  return {};
}

Result<void> Machine::append(std::vector<Value> values) {
  if (stack_.empty() || as<List>(stack_.back()) == nullptr) return wrong("values are appended to something not a list");
  auto& items = as<List>(stack_.back())->items;
  items.insert(items.end(), values.begin(), values.end());
  return {};
}

}  // namespace

Result<std::vector<PickledTensor>> read_state_dict_pickle(std::span<const std::byte> pickle,
                                                          const std::string& origin) {
  if (pickle.size() > kMaximumPickleBytes) {
    return fail(ErrorCode::kResourceExhausted, "[torch] pickle is too large for a state dict: {} > {} bytes ({})",
                pickle.size(), kMaximumPickleBytes, origin);
  }
  Machine machine(pickle, origin);
  KRAIT_ASSIGN(const Value result, machine.run());
  const Dict* dict = as<Dict>(result);
  if (dict == nullptr) {
    return fail(ErrorCode::kUnsupported, "[torch] file holds {}, not a state dict ({})", kind_of(result), origin);
  }
  std::vector<PickledTensor> tensors;
  std::set<std::string_view> names;
  for (const auto& [key, value] : dict->items) {
    const Text* name = as<Text>(key);
    if (name == nullptr) {
      return fail(ErrorCode::kUnsupported, "[torch] a key of the state dict is {}, not text ({})", kind_of(key),
                  origin);
    }
    const PickledTensor* tensor = as<PickledTensor>(value);
    if (tensor == nullptr) {
      return fail(ErrorCode::kUnsupported,
                  "[torch] \"{}\" is {}, not a tensor: krait reads a flat dict of names and tensors ({})", name->text,
                  kind_of(value), origin);
    }
    if (!names.insert(name->text).second) {
      return fail(ErrorCode::kCorrupt, "[torch] tensor \"{}\" is there twice ({})", name->text, origin);
    }
    tensors.push_back(*tensor);
    tensors.back().name = name->text;
  }
  return tensors;
}

}  // namespace krait::formats
