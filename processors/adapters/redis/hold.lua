-- Whether an owner still holds a partition where it thinks it does, part of commit.lua and load.lua.
--
-- Returns nothing, or the error that says what is there instead.

local function not_held(key, token, offset, cursor)
  local held = redis.call('HMGET', key, 'token', 'offset', 'cursor', 'pending')
  if held[1] ~= token then
    return redis.error_reply('FENCED another owner has acquired ' .. key)
  end
  if held[4] then
    return redis.error_reply('FENCED a commit to ' .. key .. ' was cut short; acquiring it anew completes it')
  end
  local at = (held[2] or '0') .. ', ' .. (held[3] or '0')
  if at ~= offset .. ', ' .. cursor then
    return redis.error_reply('FENCED ' .. key .. ' is at ' .. at .. ', not at ' .. offset .. ', ' .. cursor)
  end
end
