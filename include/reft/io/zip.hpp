#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "reft/error.hpp"
#include "reft/io/crc.hpp"
#include "reft/io/mapped_file.hpp"

namespace reft {

// Note [Zip archives of stored entries]
// torch.save writes zip archives whose entries are stored, not compressed; nothing else is read here, so no entry is
// larger than the file and the memory needed is that of the list of names. Every length and offset is checked against
// the file before it is used, entries may not share bytes, and each entry's CRC-32 is verified when the file is opened.
// Ref: PKWARE APPNOTE 6.3.10, sections 4.3.7 (local header), 4.3.12 (directory), 4.3.14 to 4.3.16 (its end).

static_assert(std::endian::native == std::endian::little, "zip archives store little-endian numbers");

/// Name to bytes, inside the mapped file.
using ZipEntries = std::map<std::string, std::span<const std::byte>>;

namespace detail {

inline constexpr uint32_t kZipLocalHeader = 0x04034B50, kZipDirectoryHeader = 0x02014B50, kZipEnd = 0x06054B50,
                          kZip64End = 0x06064B50, kZip64Locator = 0x07064B50;
inline constexpr uint32_t kZipIn64 = 0xFFFFFFFF;  // stands where a number is held in 64 bits elsewhere

/// Reads the directory of one archive, entry by entry.
class ZipDirectory {
 public:
  explicit ZipDirectory(const MappedFile& file) : file_(file), bytes_(file.bytes()) {
    constexpr uint64_t kEndBytes = 22, kEnd64Bytes = 56, kLocatorBytes = 20;
    if (bytes_.size() < kEndBytes || number<uint32_t>(bytes_.size() - kEndBytes) != kZipEnd) {
      refuse("it does not end in a zip directory; it is truncated, damaged or not a zip archive");
    }
    const uint64_t end = bytes_.size() - kEndBytes;
    uint64_t directory_end = end, count = number<uint16_t>(end + 10), size = number<uint32_t>(end + 12),
             begin = number<uint32_t>(end + 16);
    if (end >= kEnd64Bytes + kLocatorBytes && number<uint32_t>(end - kLocatorBytes) == kZip64Locator) {
      directory_end = number<uint64_t>(end - kLocatorBytes + 8);
      if (directory_end != end - kLocatorBytes - kEnd64Bytes || number<uint32_t>(directory_end) != kZip64End) {
        refuse("its 64-bit directory is damaged");
      }
      count = number<uint64_t>(directory_end + 32);
      size = number<uint64_t>(directory_end + 40);
      begin = number<uint64_t>(directory_end + 48);
    }
    if (size > directory_end || begin != directory_end - size) refuse("its directory is damaged");
    directory_begin_ = begin;
    uint64_t at = begin;
    for (uint64_t i = 0; i < count; ++i) at = read_entry(at, directory_end);
    if (at != directory_end) refuse("its directory holds more than its {} entries", count);
    check_overlaps();
  }

  ZipEntries entries;

 private:
  struct Extent {
    uint64_t begin, end;
    std::string name;
  };

  template <class... Args>
  [[noreturn]] void refuse(fmt::format_string<Args...> message, Args&&... args) const {
    fail<CheckpointError>("read_zip", "{}: {}", file_.path().string(), fmt::format(message, std::forward<Args>(args)...));
  }

  void need(uint64_t at, uint64_t count, uint64_t end) const {
    if (count > end || at > end - count) refuse("it is truncated or damaged: {} bytes are expected at byte {}", count, at);
  }

  template <class Number>
  Number number(uint64_t at) const {
    need(at, sizeof(Number), bytes_.size());
    Number value;
    std::memcpy(&value, bytes_.data() + at, sizeof value);
    return value;
  }

  std::string text(uint64_t at, uint64_t length, uint64_t end) const {
    need(at, length, end);
    return std::string(file_.text().substr(at, length));
  }

  /// The directory's header at `at`.   @return where the next one begins.
  uint64_t read_entry(uint64_t at, uint64_t end) {
    constexpr uint64_t kHeaderBytes = 46;
    need(at, kHeaderBytes, end);
    if (number<uint32_t>(at) != kZipDirectoryHeader) refuse("its directory is damaged at byte {}", at);
    const uint64_t name_bytes = number<uint16_t>(at + 28), extra_bytes = number<uint16_t>(at + 30);
    const uint64_t next = at + kHeaderBytes + name_bytes + extra_bytes + number<uint16_t>(at + 32);
    need(at, next - at, end);
    const std::string name = text(at + kHeaderBytes, name_bytes, end);
    const bool encrypted = number<uint16_t>(at + 8) & 1;
    if (const auto method = number<uint16_t>(at + 10); method != 0 || encrypted) {
      refuse("entry {}: expected a stored entry, as torch.save writes, got {}", name,
             encrypted ? "an encrypted one" : fmt::format("compression method {}", method));
    }
    std::array<uint64_t, 3> wide{number<uint32_t>(at + 24), number<uint32_t>(at + 20), number<uint32_t>(at + 42)};
    read_zip64(wide, at + kHeaderBytes + name_bytes, extra_bytes, name);
    const auto [size, stored_size, local] = wide;
    if (size != stored_size) refuse("entry {}: it is stored, but has the two sizes {} and {}", name, size, stored_size);
    const auto data = locate(name, local, size);
    if (crc32(data) != number<uint32_t>(at + 16)) refuse("entry {}: its CRC-32 differs; the file is damaged", name);
    if (!entries.emplace(name, data).second) refuse("entry {}: it is there twice", name);
    return next;
  }

  /// Replaces sizes and offset that do not fit 32 bits by those of the extra field 1.
  void read_zip64(std::array<uint64_t, 3>& wide, uint64_t at, uint64_t bytes, const std::string& name) const {
    if (std::find(wide.begin(), wide.end(), kZipIn64) == wide.end()) return;
    for (const uint64_t end = at + bytes; at + 4 <= end;) {
      const uint64_t field_end = at + 4 + number<uint16_t>(at + 2);
      if (field_end > end) break;
      if (number<uint16_t>(at) != 1) {
        at = field_end;
        continue;
      }
      at += 4;
      for (uint64_t& value : wide) {
        if (value != kZipIn64) continue;
        if (at + 8 > field_end) refuse("entry {}: its 64-bit sizes are damaged", name);
        value = number<uint64_t>(at);
        at += 8;
      }
      return;
    }
    refuse("entry {}: its 64-bit sizes are missing", name);
  }

  /// The bytes behind the entry's own header, which must repeat its name.
  std::span<const std::byte> locate(const std::string& name, uint64_t local, uint64_t size) {
    constexpr uint64_t kHeaderBytes = 30;
    need(local, kHeaderBytes, directory_begin_);
    const uint64_t name_bytes = number<uint16_t>(local + 26);
    if (number<uint32_t>(local) != kZipLocalHeader || name != text(local + kHeaderBytes, name_bytes, directory_begin_)) {
      refuse("entry {}: its header at byte {} is damaged", name, local);
    }
    const uint64_t data = local + kHeaderBytes + name_bytes + number<uint16_t>(local + 28);
    need(data, size, directory_begin_);
    extents_.push_back({local, data + size, name});
    return bytes_.subspan(data, size);
  }

  /// Many entries over the same bytes make a small file claim to be a huge one.
  void check_overlaps() {
    std::sort(extents_.begin(), extents_.end(), [](const Extent& a, const Extent& b) { return a.begin < b.begin; });
    for (std::size_t i = 1; i < extents_.size(); ++i) {
      if (extents_[i].begin < extents_[i - 1].end) refuse("entries {} and {} overlap", extents_[i - 1].name, extents_[i].name);
    }
  }

  const MappedFile& file_;
  std::span<const std::byte> bytes_;
  uint64_t directory_begin_ = 0;
  std::vector<Extent> extents_;
};

/// A header as a row of little-endian numbers.
class ZipRecord {
 public:
  ZipRecord& u16(std::size_t value) { return raw(static_cast<uint16_t>(value)); }
  ZipRecord& u32(std::size_t value) { return raw(static_cast<uint32_t>(value)); }
  ZipRecord& text(std::string_view value) {
    content_ += value;
    return *this;
  }
  std::string_view content() const { return content_; }

 private:
  template <class Number>
  ZipRecord& raw(Number value) {
    content_.append(reinterpret_cast<const char*>(&value), sizeof value);
    return *this;
  }

  std::string content_;
};

/// What both headers of an entry say of it: version 2.0, no flags, stored, at no particular time.
inline void add_common_fields(ZipRecord& record, uint32_t crc, std::size_t size, const std::string& name, std::size_t extra) {
  record.u16(20).u16(0).u16(0).u32(0).u32(crc).u32(size).u32(size).u16(name.size()).u16(extra);
}

}  // namespace detail

/// All entries of an archive; see Note [Zip archives of stored entries].
/// @throws CheckpointError for a truncated, damaged or compressed archive.
inline ZipEntries read_zip(const MappedFile& file) { return std::move(detail::ZipDirectory(file).entries); }

/// Writes entries stored, each beginning at a multiple of 64 bytes as torch.save has it.
/// @param sink  takes `write(std::string_view)` and `write(std::span<const std::byte>)`.
/// @throws ConfigError for more than 4 GiB or 65535 entries in all.
template <class Sink>
void write_zip(Sink& sink, const std::vector<std::pair<std::string, std::span<const std::byte>>>& entries) {
  constexpr uint64_t kHeaderBytes = 30, kFieldBytes = 4, kAlignment = 64;
  uint64_t offset = 0, total = 0;
  for (const auto& [name, data] : entries) total += data.size() + 2 * name.size() + 256;
  if (total >= detail::kZipIn64 || entries.size() > std::numeric_limits<uint16_t>::max()) {
    fail<ConfigError>("write_zip", "expected less than 4 GiB in at most 65535 entries, got {} bytes in {}", total, entries.size());
  }
  detail::ZipRecord directory;
  for (const auto& [name, data] : entries) {
    const uint64_t begin = offset + kHeaderBytes + name.size() + kFieldBytes;
    const std::string padding((kAlignment - begin % kAlignment) % kAlignment, 'Z');
    const uint32_t crc = detail::crc32(data);
    detail::ZipRecord header;
    header.u32(detail::kZipLocalHeader);
    detail::add_common_fields(header, crc, data.size(), name, kFieldBytes + padding.size());
    header.text(name).text("FB").u16(padding.size()).text(padding);
    directory.u32(detail::kZipDirectoryHeader).u16(20);
    detail::add_common_fields(directory, crc, data.size(), name, 0);
    directory.u16(0).u16(0).u16(0).u32(0).u32(offset).text(name);
    sink.write(header.content());
    sink.write(data);
    offset = begin + padding.size() + data.size();
  }
  sink.write(directory.content());
  detail::ZipRecord end;
  end.u32(detail::kZipEnd).u16(0).u16(0).u16(entries.size()).u16(entries.size());
  end.u32(directory.content().size()).u32(offset).u16(0);
  sink.write(end.content());
}

}  // namespace reft
