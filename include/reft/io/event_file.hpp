#pragma once

#include <unistd.h>

#include <algorithm>
#include <bit>
#include <charconv>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "reft/error.hpp"
#include "reft/io/crc.hpp"

namespace reft {

// Note [TensorBoard event files]
// A file is a sequence of TFRecords, each an Event message of protocol buffers:
//   record   length (uint64), masked CRC-32C of those 8 bytes, data, masked CRC-32C of the data; all little-endian
//   Event    1 wall_time (double)  2 step (int64)  3 file_version (string)  5 summary (Summary)  7 session_log (SessionLog)
//   Summary  1 value, repeated:    1 tag (string)  2 simple_value (float)
//   SessionLog  1 status (enum):   1 = START
// The first event holds file_version "brain.Event:2". A START with a step makes readers drop what earlier files of the
// folder say of that step and later ones, which is what a resumed run needs.
// Ref: tensorflow/core/lib/io/record_writer.h, tensorflow/core/util/event.proto, tensorflow/core/framework/summary.proto.

namespace detail {

static_assert(std::endian::native == std::endian::little, "TFRecord and protocol buffers store little-endian numbers");

template <class Number>
void append_number(std::string& bytes, Number value) {
  char raw[sizeof value];
  std::memcpy(raw, &value, sizeof value);
  bytes.append(raw, sizeof value);
}

/// A number of seven bits a byte, the low ones first; the high bit says that more follow.
inline void append_varint(std::string& bytes, uint64_t value) {
  for (; value >= 0x80; value >>= 7) bytes += static_cast<char>(value | 0x80);
  bytes += static_cast<char>(value);
}

enum class WireType : uint8_t { varint = 0, eight_bytes = 1, text = 2, four_bytes = 5 };

inline void append_key(std::string& bytes, int field, WireType type) { append_varint(bytes, uint64_t(field) << 3 | uint64_t(type)); }

inline void append_text(std::string& bytes, int field, std::string_view text) {
  append_key(bytes, field, WireType::text);
  append_varint(bytes, text.size());
  bytes += text;
}

/// The start of every Event.
inline std::string event_begin(double wall_time, int64_t step) {
  std::string bytes;
  append_key(bytes, 1, WireType::eight_bytes);
  append_number(bytes, wall_time);
  if (step != 0) {  // as protocol buffers leave out what is 0
    append_key(bytes, 2, WireType::varint);
    append_varint(bytes, static_cast<uint64_t>(step));
  }
  return bytes;
}

inline std::string version_event(double wall_time) {
  std::string event = event_begin(wall_time, 0);
  append_text(event, 3, "brain.Event:2");
  return event;
}

inline std::string session_start_event(double wall_time, int64_t step) {
  std::string event = event_begin(wall_time, step), log;
  append_key(log, 1, WireType::varint);
  append_varint(log, 1);
  append_text(event, 7, log);
  return event;
}

/// @param values  pairs of a tag and a number.
template <class Values>
std::string scalars_event(double wall_time, int64_t step, const Values& values) {
  std::string summary;
  for (const auto& [tag, number] : values) {
    std::string value;
    append_text(value, 1, tag);
    append_key(value, 2, WireType::four_bytes);
    append_number(value, static_cast<float>(number));
    append_text(summary, 1, value);
  }
  std::string event = event_begin(wall_time, step);
  append_text(event, 5, summary);
  return event;
}

/// A CRC, rotated and shifted: the CRC of bytes that hold their own CRC would be a constant.
inline uint32_t masked_crc32c(std::string_view bytes) { return std::rotr(crc32c(std::as_bytes(std::span(bytes))), 15) + 0xA282EAD8U; }

inline std::string tf_record(std::string_view data) {
  std::string record;
  append_number(record, static_cast<uint64_t>(data.size()));
  append_number(record, masked_crc32c(record));
  record += data;
  append_number(record, masked_crc32c(data));
  return record;
}

constexpr std::string_view kEventFilePrefix = "events.out.tfevents.";

/// The seconds in a name like "events.out.tfevents.1764000000.host.17.0"; 0 for other names.
inline int64_t event_file_seconds(const std::string& name) {
  int64_t seconds = 0;
  if (name.starts_with(kEventFilePrefix)) {
    std::from_chars(name.data() + kEventFilePrefix.size(), name.data() + name.size(), seconds);
  }
  return seconds;
}

}  // namespace detail

/// Whether a folder holds TensorBoard's event files.
inline bool has_event_files(const std::filesystem::path& folder) {
  if (!std::filesystem::is_directory(folder)) return false;
  return std::any_of(std::filesystem::directory_iterator(folder), std::filesystem::directory_iterator(),
                     [](const auto& entry) { return entry.path().filename().string().starts_with(detail::kEventFilePrefix); });
}

/// A new event file in a folder, which is made if it is missing. Every event is flushed when it is written.
class EventFile {
 public:
  /// @throws Error if the file cannot be written.
  explicit EventFile(const std::filesystem::path& folder) {
    std::error_code error;
    std::filesystem::create_directories(folder, error);
    if (error) fail<Error>("EventFile", "{}: cannot create the folder: {}", folder.string(), error.message());
    // Readers take the files in the order of their names, so a new one must not share its second with an older one.
    auto seconds = static_cast<int64_t>(now());
    for (const auto& entry : std::filesystem::directory_iterator(folder)) {
      seconds = std::max(seconds, detail::event_file_seconds(entry.path().filename().string()) + 1);
    }
    char host[256] = "localhost";
    ::gethostname(host, sizeof host - 1);
    path_ = folder / fmt::format("{}{:010}.{}.{}.0", detail::kEventFilePrefix, seconds, host, ::getpid());
    stream_.open(path_, std::ios::binary);
    write(detail::version_event(now()));
  }

  const std::filesystem::path& path() const { return path_; }

  /// Readers forget what earlier files of the folder say of `step` and later ones.
  void start_session(int64_t step) { write(detail::session_start_event(now(), step)); }

  /// @param values  pairs of a tag ("train/loss") and a number, stored as a float.
  template <class Values>
  void add_scalars(int64_t step, const Values& values) {
    write(detail::scalars_event(now(), step, values));
  }

 private:
  static double now() { return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count(); }

  void write(const std::string& event) {
    stream_ << detail::tf_record(event) << std::flush;
    if (!stream_) fail<Error>("EventFile", "{}: cannot be written; is the disk full?", path_.string());
  }

  std::filesystem::path path_;
  std::ofstream stream_;
};

}  // namespace reft
