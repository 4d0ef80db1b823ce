#pragma once

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <concepts>
#include <cstddef>
#include <filesystem>
#include <span>
#include <string_view>
#include <system_error>
#include <utility>

#include "reft/error.hpp"

namespace reft {

namespace detail {

[[noreturn]] inline void fail_with_errno(std::string_view function, const std::filesystem::path& path,
                                         std::string_view what, int error = errno) {
  fail<Error>(function, "{}: cannot {}: {}", path.string(), what, std::generic_category().message(error));
}

/// A hidden name beside `path` that no other process or thread is given.
inline std::filesystem::path temporary_sibling(const std::filesystem::path& path) {
  static std::atomic<uint64_t> count{0};
  const auto name = fmt::format(".{}.{}.{}.tmp", path.filename().string(), ::getpid(), count++);
  return path.parent_path() / name;
}

/// Makes names inside a folder durable. Some file systems cannot, and a finished write is no less finished there.
inline void sync_folder(const std::filesystem::path& folder) noexcept {
  const int descriptor = ::open(folder.empty() ? "." : folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (descriptor < 0) return;
  ::fsync(descriptor);
  ::close(descriptor);
}

}  // namespace detail

/// What the callback of `write_file_atomically` writes to.
class FileWriter {
 public:
  /// @throws Error if the disk is full or the file cannot be written.
  void write(std::span<const std::byte> bytes) {
    while (!bytes.empty()) {
      const ssize_t written = ::write(descriptor_, bytes.data(), bytes.size());
      if (written < 0 && errno == EINTR) continue;
      if (written < 0) detail::fail_with_errno("write_file_atomically", target_, "write");
      bytes = bytes.subspan(static_cast<std::size_t>(written));
    }
  }

  void write(std::string_view text) { write(std::as_bytes(std::span(text))); }

  FileWriter(const FileWriter&) = delete;
  FileWriter& operator=(const FileWriter&) = delete;

 private:
  template <std::invocable<FileWriter&> Fill>
  friend void write_file_atomically(const std::filesystem::path& path, Fill&& fill);

  explicit FileWriter(std::filesystem::path target)
      : target_(std::move(target)), temporary_(detail::temporary_sibling(target_)) {
    descriptor_ = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (descriptor_ < 0) detail::fail_with_errno("write_file_atomically", target_, "create");
  }

  ~FileWriter() {
    if (descriptor_ >= 0) ::close(descriptor_);
    if (!committed_) ::unlink(temporary_.c_str());
  }

  void commit() {
    if (::fsync(descriptor_) < 0) detail::fail_with_errno("write_file_atomically", target_, "write");
    if (::close(std::exchange(descriptor_, -1)) < 0) detail::fail_with_errno("write_file_atomically", target_, "write");
    if (::rename(temporary_.c_str(), target_.c_str()) < 0) {
      detail::fail_with_errno("write_file_atomically", target_, "replace");
    }
    committed_ = true;
    detail::sync_folder(target_.parent_path());
  }

  std::filesystem::path target_, temporary_;
  int descriptor_ = -1;
  bool committed_ = false;
};

/// Writes a file so that every reader sees the old content or the whole new one: `fill(writer)` writes to a temporary
/// name in the same folder, which is synced and renamed. If anything throws, the temporary is gone and the old file
/// stands. @throws Error with the reason and the path.
template <std::invocable<FileWriter&> Fill>
void write_file_atomically(const std::filesystem::path& path, Fill&& fill) {
  FileWriter writer(path);
  std::forward<Fill>(fill)(writer);
  writer.commit();
}

inline void write_file_atomically(const std::filesystem::path& path, std::span<const std::byte> bytes) {
  write_file_atomically(path, [&](FileWriter& writer) { writer.write(bytes); });
}

inline void write_file_atomically(const std::filesystem::path& path, std::string_view text) {
  write_file_atomically(path, std::as_bytes(std::span(text)));
}

/// A folder that appears whole or not at all: fill `path()`, a temporary sibling, then `commit()` gives it its name.
/// Without a commit the destructor removes it.
class AtomicFolder {
 public:
  /// Missing parent folders are made.
  /// @throws ConfigError if the target is a file, or holds something and `overwrite` is false; Error if the place
  ///   cannot be written.
  explicit AtomicFolder(const std::filesystem::path& target, bool overwrite = false) {
    // A final slash would make the name empty, and a link must be followed before it can be replaced.
    target_ = std::filesystem::weakly_canonical(std::filesystem::absolute(target));
    if (!target_.has_filename()) target_ = target_.parent_path();
    check_target(target, overwrite);
    std::error_code error;
    std::filesystem::create_directories(target_.parent_path(), error);
    path_ = detail::temporary_sibling(target_);
    if (!error && !std::filesystem::create_directory(path_, error) && !error) {
      error = std::make_error_code(std::errc::file_exists);
    }
    if (error) detail::fail_with_errno("write_folder", target, "create", error.value());
  }

  AtomicFolder(const AtomicFolder&) = delete;
  AtomicFolder& operator=(const AtomicFolder&) = delete;
  ~AtomicFolder() { remove_temporary(); }

  /// Where to put the files until they are committed.
  const std::filesystem::path& path() const { return path_; }

  /// @throws Error if the folder cannot be put in place; the old one then stands.
  void commit() {
    detail::sync_folder(path_);
    // Over a missing or an empty folder a rename is enough. A full one changes places with the new one in a single
    // step, and is removed after that.
    if (::rename(path_.c_str(), target_.c_str()) < 0) {
      if (errno != ENOTEMPTY && errno != EEXIST) detail::fail_with_errno("write_folder", target_, "replace");
      if (!overwrites_)
        fail<ConfigError>("write_folder", "{}: somebody else has filled it meanwhile", target_.string());
      exchange();
    }
    detail::sync_folder(target_.parent_path());
    remove_temporary();
  }

 private:
  void check_target(const std::filesystem::path& shown, bool overwrite) {
    std::error_code error;
    const auto kind = std::filesystem::status(target_, error).type();
    if (kind == std::filesystem::file_type::not_found) return;
    if (kind != std::filesystem::file_type::directory) {
      fail<ConfigError>("write_folder", "{}: expected a folder, got a file", shown.string());
    }
    const bool empty = std::filesystem::is_empty(target_, error);
    if (error) detail::fail_with_errno("write_folder", shown, "read", error.value());
    if (empty) return;
    if (!overwrite) {
      fail<ConfigError>("write_folder", "{}: the folder exists and is not empty; choose another, or overwrite it",
                        shown.string());
    }
    const auto here = std::filesystem::current_path() / "";
    if (here.string().starts_with((target_ / "").string())) {
      fail<ConfigError>("write_folder", "{}: it holds the working folder, so it is not overwritten", shown.string());
    }
    overwrites_ = true;
  }

  void exchange() {
    if (::renameat2(AT_FDCWD, path_.c_str(), AT_FDCWD, target_.c_str(), RENAME_EXCHANGE) == 0) return;
    if (errno != EINVAL && errno != ENOSYS) detail::fail_with_errno("write_folder", target_, "replace");
    // Network file systems cannot exchange: there the old folder steps aside first, and back if the new one fails.
    const auto aside = detail::temporary_sibling(target_);
    if (::rename(target_.c_str(), aside.c_str()) < 0) detail::fail_with_errno("write_folder", target_, "replace");
    if (::rename(path_.c_str(), target_.c_str()) < 0) {
      const int error = errno;
      ::rename(aside.c_str(), target_.c_str());
      detail::fail_with_errno("write_folder", target_, "replace", error);
    }
    path_ = aside;
  }

  void remove_temporary() noexcept {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }

  std::filesystem::path target_, path_;
  bool overwrites_ = false;
};

}  // namespace reft
