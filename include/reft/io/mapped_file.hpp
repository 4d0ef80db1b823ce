#pragma once

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <filesystem>
#include <memory>
#include <span>
#include <string_view>
#include <system_error>
#include <utility>

#include "reft/error.hpp"

namespace reft {

/// A regular file, mapped read-only. The mapping lives as long as the last owner of the pointer; replacing the file
/// by renaming leaves it intact, shortening the file in place does not (writers in this library always rename).
class MappedFile {
 public:
  /// @throws CheckpointError if the file is missing, unreadable or not a regular file.
  static std::shared_ptr<const MappedFile> open(std::filesystem::path path) {
    return std::shared_ptr<const MappedFile>(new MappedFile(std::move(path)));
  }

  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;
  ~MappedFile() {
    if (data_) ::munmap(data_, size_);
  }

  std::span<const std::byte> bytes() const { return {static_cast<const std::byte*>(data_), size_}; }
  std::string_view text() const { return {static_cast<const char*>(data_), size_}; }
  const std::filesystem::path& path() const { return path_; }

 private:
  explicit MappedFile(std::filesystem::path path) : path_(std::move(path)) {
    // Without O_NONBLOCK, opening a named pipe would wait for a writer.
    const int descriptor = ::open(path_.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (descriptor < 0) fail_with(errno);
    struct stat status{};
    int error = ::fstat(descriptor, &status) < 0 ? errno : 0;
    const bool regular = S_ISREG(status.st_mode);
    // An empty file cannot be mapped; its bytes are the empty span.
    if (!error && regular && status.st_size > 0) {
      void* data = ::mmap(nullptr, static_cast<std::size_t>(status.st_size), PROT_READ, MAP_PRIVATE, descriptor, 0);
      if (data == MAP_FAILED) {
        error = errno;
      } else {
        data_ = data;
        size_ = static_cast<std::size_t>(status.st_size);
      }
    }
    ::close(descriptor);
    if (error) fail_with(error);
    if (!regular) {
      fail<CheckpointError>("open_file", "{}: expected a file, got {}", path_.string(),
                            S_ISDIR(status.st_mode) ? "a folder" : "a device or pipe");
    }
  }

  [[noreturn]] void fail_with(int error) const {
    fail<CheckpointError>("open_file", "{}: {}", path_.string(), std::generic_category().message(error));
  }

  std::filesystem::path path_;
  void* data_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace reft
